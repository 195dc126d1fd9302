"""Live progress of a comparison: one bar for all runs with the time left, and a line for every run that ends."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fedmosaic.experiments.grid import GridListener, Job
from fedmosaic.reporting.tables import duration, percent


class GridProgress(GridListener):
    """A bar over the rounds of all runs, and one for each run that goes on.

    The time left is what the rounds done since the start took, times those that remain: it takes the algorithms for equally fast.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.progress: Progress | None = None

    def grid_started(
        self, title: str, jobs: Sequence[Job], finished: Sequence[Job], parallel: int
    ) -> None:
        self.total = {job: float(job.settings.scenario.rounds) for job in jobs}
        self.done = {job: self.total[job] for job in finished}
        self.before = sum(self.done.values())
        self.started = time.monotonic()
        self.bars: dict[Job, TaskID] = {}
        before = f", {len(finished)} finished before" if finished else ""
        self.console.print(
            f"[bold]{title}[/] · {len(jobs)} runs{before} · at most {parallel} at a time",
            highlight=False,
        )
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.progress.start()
        self.all = self.progress.add_task("all", total=sum(self.total.values()), note="")
        self.progress.update(self.all, completed=self.before)

    def job_started(self, job: Job) -> None:
        assert self.progress is not None
        self.bars[job] = self.progress.add_task(_name(job), total=self.total[job], note="starting")

    def job_progress(self, job: Job, rounds: float, of: int, first: int | None) -> None:
        assert self.progress is not None
        self.total[job] = of
        if (
            first is not None
        ):  # what was done before this call tells nothing about how long it takes
            self.before += first
        self.done[job] = rounds
        self.progress.update(
            self.bars[job],
            completed=rounds,
            total=of,
            note=f"round {min(int(rounds) + 1, of)} of {of}",
        )
        done, total = sum(self.done.values()), sum(self.total.values())
        self.progress.update(self.all, completed=done, total=total, note=self._left(done, total))

    def job_finished(self, job: Job, summary: Mapping[str, Any]) -> None:
        own, others = percent(summary["self"]["last"]), percent(summary["others"]["last"])
        self._ended(
            job,
            f"{_name(job)}  self {own}  others {others}  {duration(summary['seconds']['total'])}",
        )

    def job_failed(self, job: Job, reason: str) -> None:
        self._ended(job, f"[red]{_name(job)}  failed: {escape(reason)}[/]")

    def grid_closed(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def _ended(self, job: Job, line: str) -> None:
        assert self.progress is not None
        self.progress.remove_task(self.bars.pop(job))
        self.done[job] = self.total[job]
        self.console.print(line, highlight=False)

    def _left(self, done: float, total: float) -> str:
        fresh = done - self.before
        if fresh <= 0:
            return ""
        return f"{duration((time.monotonic() - self.started) / fresh * (total - done))} left"


def _name(job: Job) -> str:
    return f"{escape(job.label)} · seed {job.seed}"
