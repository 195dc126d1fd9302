"""The settings of a whole run: what ``config.yaml`` in a run folder holds."""

from __future__ import annotations

from pydantic import Field

from fedmosaic.config.scenario import Scenario, Settings


class Rehearsal(Settings):
    """What the rehearsal before a run counted, and the steps and rounds that follow from it (``federation/rehearsal.py``).

    Attributes:
        steps: local steps a round. rounds: of the run.
        reference: for each architecture the operations of ``train.steps`` steps of local training (empty unless counted).
        flops: the same of this algorithm's local round with ``train.steps`` steps, everything it does included.
        bytes_up, bytes_down: what the client that sends and receives most sends and receives in a round.
    """

    steps: int
    rounds: int
    reference: dict[str, int] = Field(default_factory=dict)
    flops: dict[str, int] = Field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


class RunSettings(Settings):
    """A whole run: the resolved content of ``config.yaml``."""

    name: str
    algorithm: str = "fedmosaic"
    seed: int = 0
    threads: int = Field(default=0, ge=0, description="torch threads a process; 0 chooses")
    workers: int = Field(
        default=0, ge=0, description="processes that clients are spread over; 0 chooses"
    )
    trackers: tuple[str, ...] = ("tensorboard",)
    scenario: Scenario
    rehearsal: Rehearsal | None = None
    versions: dict[str, str] = Field(default_factory=dict)
