"""Show the progress of a run and of an alignment in the terminal.

In a pipe there are no bars, only one plain line for each finished round or step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Record
from fedmosaic.federation.callbacks import Callback
from fedmosaic.models.architectures import architectures
from fedmosaic.reporting.placement import placement_parts
from fedmosaic.reporting.terminal import print_parts
from fedmosaic.reporting.units import duration, percent


class ConsoleProgress(Callback):
    """Show a progress bar over the clients' turns, and one line for each finished round.

    The time left is the mean time of the turns so far, times the turns that remain. Turns that
    evaluate take longer, so the time left is too short while no round has been evaluated.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.progress: Progress | None = None

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        scenario = settings.scenario
        models = ", ".join(dict.fromkeys(architectures(scenario.models_used).values()))
        title = (
            f"{settings.name} · {settings.algorithm} · seed {settings.seed} · "
            f"{len(scenario.clients)} clients · {scenario.rounds} rounds"
        )
        continuation = (
            [f"continuing after round {first_round} of {scenario.rounds}"] if first_round else []
        )
        parts: list[Text | str] = [
            Text(title, "bold"),
            models,
            *_signature_lines(settings),
            *continuation,
        ]
        print_parts(parts, self.console)
        self.settings = settings
        self.own_tasks = {
            client.name: {task.name for task in client.tasks} for client in scenario.clients
        }
        self.started = time.monotonic()
        self.first = first_round
        self.losses: list[float] = []
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.progress.start()
        self.bar = self.progress.add_task("", total=None, left="")

    def adapters_placed(self, found: Mapping[str, Any]) -> None:
        print_parts(placement_parts(found), self.console, "dim")

    def round_started(self, round_number: int, clients: Sequence[str]) -> None:
        assert self.progress is not None
        self.losses = []
        self.turns, self.expected = 0, max(len(clients), 1)
        total = self.settings.scenario.rounds * self.expected
        self.progress.update(
            self.bar,
            total=total,
            completed=round_number * self.expected,
            description=f"round {round_number + 1}",
        )

    def client_finished(self, round_number: int, client: str, report: Mapping[str, Any]) -> None:
        assert self.progress is not None
        self.turns += 1
        if report.get("steps"):
            self.losses.append(float(report["loss"]))
        done = round_number - self.first + self.turns / self.expected
        left = (
            (time.monotonic() - self.started)
            / done
            * (self.settings.scenario.rounds - self.first - done)
        )
        self.progress.update(
            self.bar,
            advance=1,
            description=f"round {round_number + 1} · {client}",
            left=f"{duration(left)} left",
        )

    def round_finished(
        self, round_number: int, entry: Mapping[str, Any], records: Sequence[Record]
    ) -> None:
        loss = f"loss {sum(self.losses) / len(self.losses):.3f}" if self.losses else ""
        parts = [f"round {round_number + 1:>3}/{self.settings.scenario.rounds}", loss]
        after = [
            record
            for record in records
            if record.stage == "after" and record.view == records[-1].view
        ]
        own = [r.value for r in after if r.task in self.own_tasks[r.client]]
        others = [r.value for r in after if r.task not in self.own_tasks[r.client]]
        if own:
            parts.append(f"self {percent(sum(own) / len(own))}")
        if others:
            parts.append(f"others {percent(sum(others) / len(others))}")
        refused = entry.get("refused", {}).values()
        warnings = [
            Text(f"  {reason}; the round went on without it", "yellow") for reason in refused
        ]
        warnings += [Text(f"  {text}", "yellow") for text in clipped_lines(entry)]
        print_parts(["  ".join(filter(None, parts)), *warnings], self.console)

    def closed(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def clipped_lines(entry: Mapping[str, Any]) -> list[str]:
    """Say which updates of a round were scaled down, from the round's line of the metrics."""
    limit = entry.get("defences", {}).get("limit")
    return [
        f"update of client {client!r} scaled down to {limit:g} times the median norm: "
        + ", ".join(f"{kind} was {ratio:.3g} times" for kind, ratio in kinds.items())
        for client, kinds in entry.get("defences", {}).get("clipped", {}).items()
    ]


def _signature_lines(settings: RunSettings) -> list[str]:
    """Say which model computes signatures where it is not simply the smallest, in closed form."""
    found = settings.signature
    if found is None or (found.method == "closed form" and not found.skipped):
        return []
    way = "in closed form" if found.method == "closed form" else "by autograd"
    line = f"signatures: {settings.scenario.relevance.model}, {way}, at {found.layer}"
    return [line, *(f"  not {name}: it {reason}" for name, reason in found.skipped.items())]


class AlignProgress:
    """Show a progress bar for each step of an alignment.

    Call it with the name of a step, how much of it is done, and its total.
    """

    def __init__(self, shown: bool = True, console: Console | None = None) -> None:
        self.console = console or Console()
        self.shown = shown
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> AlignProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of a step are done."""
        if step not in self.tasks:
            self.tasks[step] = self.bars.add_task(step, total=total)
        self.bars.update(self.tasks[step], completed=done, total=total)
        if self.shown and not self.console.is_terminal and done >= total:
            print_parts([f"{step}: {done} of {total}"], self.console)
