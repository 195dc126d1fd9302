"""TensorBoard event files in the run folder: losses and accuracies by round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Record
from fedmosaic.federation.observer import Observer


class TensorBoard(Observer):
    """Writes ``<folder>/tensorboard``; a resumed run purges the rounds that are measured again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=first_round or None)
        self.own = {client.name: {task.name for task in client.tasks} for client in settings.scenario.clients}

    def client_finished(self, round: int, client: str, report: Mapping[str, Any]) -> None:
        if report.get("steps"):
            self.writer.add_scalar(f"loss/{client}", report["loss"], round)

    def round_finished(self, round: int, entry: Mapping[str, Any], records: Sequence[Record]) -> None:
        values: dict[str, list[float]] = defaultdict(list)
        for record in records:
            kind = "self" if record.task in self.own[record.client] else "others"
            values[f"{kind}/{record.stage}/{record.view}"].append(record.value)
            values[f"{kind}/{record.stage}/{record.view}/{record.client}"].append(record.value)
        for name, found in values.items():
            self.writer.add_scalar(name, sum(found) / len(found), round)
        for way, size in entry["bytes"].items():
            self.writer.add_scalar(f"bytes/{way}", size, round)
        self.writer.flush()

    def closed(self) -> None:
        if self.writer is not None:
            self.writer.close()
