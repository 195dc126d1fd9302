"""Send the numbers of a run to an experiment tracker.

TensorBoard writes files into the run folder; Weights & Biases, trackio and MLflow are used if they
are installed. All trackers receive the same named numbers after each round.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.errors import ConfigError, nearest
from fedmosaic.evaluation import Record
from fedmosaic.federation.callbacks import Callback


def make_tracker(name: str, folder: Path) -> Tracker:
    """Make the tracker of that name.

    Args:
        name: a key of :data:`TRACKERS`.
        folder: the run folder.

    Returns:
        The tracker, which is opened when the run starts.

    Raises:
        ConfigError: the name is unknown, or the package of the tracker is not installed.
    """
    if name not in TRACKERS:
        raise ConfigError(f"trackers: unknown tracker {name!r}.{nearest(name, TRACKERS)}")
    return TRACKERS[name](folder)


class Tracker(Callback):
    """Turn the events of a run into named numbers for each round.

    The names are ``loss/<client>``, ``self|others/<stage>/<view>`` (mean over clients and tasks),
    the same with ``/<client>`` (mean over tasks), ``bytes/up|down`` and ``seconds/<part>``.

    Attributes:
        package: the module that the tracker needs.
        folder: the run folder.
        module: the imported package.
    """

    package = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = self._import()
        self.losses: dict[str, float] = {}
        self.opened = False

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        self.own_tasks = {
            client.name: {task.name for task in client.tasks}
            for client in settings.scenario.clients
        }
        self.open(settings, first_round)
        self.opened = True

    def client_finished(self, round_number: int, client: str, report: Mapping[str, Any]) -> None:
        if report.get("steps"):
            self.losses[f"loss/{client}"] = float(report["loss"])

    def round_finished(
        self, round_number: int, entry: Mapping[str, Any], records: Sequence[Record]
    ) -> None:
        values: dict[str, list[float]] = defaultdict(list)
        for record in records:
            kind = "self" if record.task in self.own_tasks[record.client] else "others"
            values[f"{kind}/{record.stage}/{record.view}"].append(record.value)
            values[f"{kind}/{record.stage}/{record.view}/{record.client}"].append(record.value)
        numbers = {name: sum(scores) / len(scores) for name, scores in values.items()}
        numbers |= {f"bytes/{way}": float(size) for way, size in entry["bytes"].items()}
        numbers |= {f"seconds/{part}": float(value) for part, value in entry["seconds"].items()}
        self.log(numbers | self.losses, round_number)
        self.losses = {}

    def closed(self) -> None:
        if self.opened:
            self.close()

    @abstractmethod
    def open(self, settings: RunSettings, first_round: int) -> None:
        """Start a run, or continue one from ``first_round``."""

    @abstractmethod
    def log(self, numbers: Mapping[str, float], round_number: int) -> None:
        """Record the numbers of a round."""

    @abstractmethod
    def close(self) -> None:
        """End the run; no more numbers follow."""

    def _import(self) -> Any:
        try:
            return import_module(self.package)
        except ImportError as error:
            name = self.package.partition(".")[0]
            raise ConfigError(f"tracker {name!r} is not installed: pip install {name}") from error


class TensorBoard(Tracker):
    """Write event files into ``<folder>/tensorboard``.

    A resumed run removes the rounds that it measures again.
    """

    package = "torch.utils.tensorboard"

    def open(self, settings: RunSettings, first_round: int) -> None:
        self.writer = self.module.SummaryWriter(
            str(self.folder / "tensorboard"), purge_step=first_round or None
        )

    def log(self, numbers: Mapping[str, float], round_number: int) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, round_number)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases(Tracker):
    """Log to a run of the project ``fedmosaic`` that has the name of the run folder."""

    package = "wandb"

    def open(self, settings: RunSettings, first_round: int) -> None:
        self.module.init(
            project="fedmosaic", name=self.folder.name, config=settings.model_dump(mode="json")
        )

    def log(self, numbers: Mapping[str, float], round_number: int) -> None:
        self.module.log(dict(numbers), step=round_number)

    def close(self) -> None:
        self.module.finish()


class Trackio(WeightsAndBiases):
    """Log to trackio, which has the same interface as Weights & Biases."""

    package = "trackio"


class MLflow(Tracker):
    """Log to a run of the experiment ``fedmosaic``."""

    package = "mlflow"

    def open(self, settings: RunSettings, first_round: int) -> None:
        self.module.set_experiment("fedmosaic")
        self.module.start_run(run_name=self.folder.name)
        self.module.log_params(
            {"scenario": settings.name, "algorithm": settings.algorithm, "seed": settings.seed}
        )

    def log(self, numbers: Mapping[str, float], round_number: int) -> None:
        self.module.log_metrics(dict(numbers), step=round_number)

    def close(self) -> None:
        self.module.end_run()


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
    "mlflow": MLflow,
}
