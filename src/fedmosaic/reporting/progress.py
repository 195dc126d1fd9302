"""Live progress in the terminal: the round, who trains, the loss, accuracies as they come, and the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Record
from fedmosaic.federation.callbacks import Callback
from fedmosaic.reporting.tables import duration, percent


class ConsoleProgress(Callback):
    """A progress bar over client turns, and one line a round.

    The time left is what the turns so far took, times the turns that remain; turns that evaluate are longer, so rounds
    without evaluation make it optimistic at first.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.progress: Progress | None = None

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        scenario = settings.scenario
        models = ", ".join(scenario.models_used)
        self.console.print(
            f"[bold]{settings.name}[/] · {settings.algorithm} · seed {settings.seed} · "
            f"{len(scenario.clients)} clients · {scenario.rounds} rounds · {models}",
            highlight=False,
        )
        if first_round:
            self.console.print(
                f"continuing after round {first_round} of {scenario.rounds}", highlight=False
            )
        self.settings = settings
        self.groups = {
            client.name: {task.name for task in client.tasks} for client in scenario.clients
        }
        self.started = time.monotonic()
        self.first = first_round
        self.losses: list[float] = []
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            transient=True,
        )
        self.progress.start()
        self.bar = self.progress.add_task("", total=None, left="")

    def round_started(self, round: int, clients: Sequence[str]) -> None:
        assert self.progress is not None
        self.losses = []
        self.turns, self.expected = 0, max(len(clients), 1)
        total = self.settings.scenario.rounds * self.expected
        self.progress.update(
            self.bar, total=total, completed=round * self.expected, description=f"round {round + 1}"
        )

    def client_finished(self, round: int, client: str, report: Mapping[str, Any]) -> None:
        assert self.progress is not None
        self.turns += 1
        if report.get("steps"):
            self.losses.append(float(report["loss"]))
        done = round - self.first + self.turns / self.expected
        left = (
            (time.monotonic() - self.started)
            / done
            * (self.settings.scenario.rounds - self.first - done)
        )
        self.progress.update(
            self.bar,
            advance=1,
            description=f"round {round + 1} · {client}",
            left=f"{duration(left)} left",
        )

    def round_finished(
        self, round: int, entry: Mapping[str, Any], records: Sequence[Record]
    ) -> None:
        loss = f"loss {sum(self.losses) / len(self.losses):.3f}" if self.losses else ""
        parts = [f"round {round + 1:>3}/{self.settings.scenario.rounds}", loss]
        after = [
            record
            for record in records
            if record.stage == "after" and record.view == records[-1].view
        ]
        own = [r.value for r in after if r.task in self.groups[r.client]]
        other = [r.value for r in after if r.task not in self.groups[r.client]]
        if own:
            parts.append(f"self {percent(sum(own) / len(own))}")
        if other:
            parts.append(f"others {percent(sum(other) / len(other))}")
        self.console.print("  ".join(part for part in parts if part), highlight=False)
        for reason in entry.get("refused", {}).values():
            self.console.print(
                f"  [yellow]{reason}; the round went on without it[/]", highlight=False
            )

    def closed(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
