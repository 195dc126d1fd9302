"""Define the settings of a whole run, as ``config.yaml`` in a run folder records them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from fedmosaic.config.base import Settings
from fedmosaic.config.scenario import Scenario
from fedmosaic.errors import CheckpointError


class Rehearsal(Settings):
    """Record what was counted before a run, and the steps and rounds that follow from it.

    See :mod:`fedmosaic.experiments.rehearsal`.
    """

    steps: int
    """Local steps per round that the budget allows."""

    rounds: int
    """Rounds that the budget allows."""

    reference: dict[str, int] = Field(default_factory=dict)
    """Operations of ``train.steps`` steps of local training, by architecture.

    Empty unless counted.
    """

    flops: dict[str, int] = Field(default_factory=dict)
    """Operations of the algorithm's whole local round of ``train.steps`` steps, by architecture."""

    bytes_up: int = 0
    """Bytes that the client with the most traffic sends per round."""

    bytes_down: int = 0
    """Bytes that the client with the most traffic receives per round."""


class SignatureRecord(Settings):
    """Record how the run's signatures are computed, by the model ``relevance.model``."""

    method: Literal["closed form", "autograd"]
    """``closed form``: from one forward pass. ``autograd``: with a small backward pass."""

    layer: str
    """Path of the linear layer whose weight's gradient is the signature."""

    skipped: dict[str, str] = Field(default_factory=dict)
    """Smaller models that ``relevance.model: smallest`` passed over, with the reasons."""


class DeploymentRecord(Settings):
    """Record what is known of the sites of a run across machines."""

    architectures: dict[str, str]
    """Fingerprint of the weights of each architecture, by the name it has in the federation."""


class RunSettings(Settings):
    """Set a whole run: a scenario, an algorithm and a seed."""

    name: str
    """Name of the scenario."""

    algorithm: str = "fedmosaic"
    """Name of the algorithm, see ``fedmosaic list algorithms``."""

    seed: int = 0
    """Seed of every random draw of the run."""

    threads: int = Field(default=0, ge=0)
    """Torch threads per process. 0: one if every client's model is a bundled miniature.

    With other models 0 leaves the choice to torch, which takes all cores in each process; with
    several ``workers``, set it to the cores divided by them.
    """

    workers: int = Field(default=0, ge=0)
    """Processes that train clients in parallel, each with models of its own in memory.

    0: one for each CUDA card; on a CPU one for each core if every client's model is a bundled
    miniature, else a single process, in which the clients take turns.
    """

    engine: Literal["local", "flower"] = "local"
    """What runs the processes that train clients. The numbers are the same.

    ``local``: fedmosaic itself. ``flower``: Flower's simulation, on Ray, which needs
    ``pip install 'fedmosaic[flower]'``.
    """

    trackers: tuple[str, ...] = ("tensorboard",)
    """Experiment trackers of the run: ``tensorboard``, ``wandb``, ``trackio`` or ``mlflow``."""

    scenario: Scenario
    """The scenario with all overrides applied."""

    rehearsal: Rehearsal | None = None
    """Costs counted for a budget before the run (the rehearsal). None: nothing was counted."""

    signature: SignatureRecord | None = None
    """How signatures are computed, recorded when the run starts. None: the algorithm needs none."""

    deployed: DeploymentRecord | None = None
    """What is known of the clients' sites. None: the run simulates all clients on one machine."""

    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the library and its dependencies, recorded when the run starts."""

    started: datetime | None = None
    """Local time at which the run started, recorded then.

    Chat templates that write the date are shown it in the whole run, also after a resume, in
    ``fedmosaic adapt`` and in ``fedmosaic export``. None: they are shown the time of the call.
    """

    settled: bool = True
    """Whether every automatic choice stands here: smallest models, sites, steps of a budget.

    The settings are written first of all, and again when models and data are loaded and everything
    is chosen. False: the run was stopped before that; it chooses when it is continued.
    """

    @property
    def is_deployed(self) -> bool:
        """Return whether the clients are at sites of their own, and not in this run's folder."""
        return self.deployed is not None or not all(one.model for one in self.scenario.clients)

    def require_simulated(self, folder: Path, way_out: str) -> None:
        """Require that the clients of a run are in its folder.

        Args:
            folder: the run folder.
            way_out: what to do otherwise, as the end of a sentence.

        Raises:
            CheckpointError: the clients are at sites of their own.
        """
        if self.is_deployed:
            raise CheckpointError(
                f"{folder} is the server's folder of a federation across machines, whose clients "
                f"are at their sites; {way_out}"
            )

    def continue_command(self, folder: Path) -> str:
        """Return the command that continues the run in a folder."""
        if self.is_deployed:
            return f"fedmosaic server --keys KEYS --out {folder}"
        return f"fedmosaic run --resume {folder}"

    def with_steps(self, steps: int) -> RunSettings:
        """Return the settings with another number of local steps per round."""
        scenario, name = self.scenario, self.algorithm
        own = {**scenario.algorithms.get(name, {}), "steps": steps}
        changed = scenario.model_copy(update={"algorithms": {**scenario.algorithms, name: own}})
        return self.model_copy(update={"scenario": changed})
