"""Show the progress of a comparison: a bar for all runs, and one line for each run that ends."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from fedmosaic.experiments.grid import GridListener, Job
from fedmosaic.reporting.terminal import print_parts
from fedmosaic.reporting.units import duration, percent


class GridProgress(GridListener):
    """Show a progress bar over the rounds of all runs, and one for each active run.

    The time left is the mean time of a round since the start, times the rounds that remain. It
    assumes that all algorithms are equally fast.
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
        head = f"{title} · {len(jobs)} runs{before} · at most {parallel} at a time"
        print_parts([Text(head, "bold")], self.console)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
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
        if first is not None:
            # Rounds of an earlier call took none of the time that this one measures.
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
        self._ended(job, f"{_name(job)}  failed: {reason}", "red")

    def grid_closed(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def _ended(self, job: Job, line: str, style: str = "") -> None:
        assert self.progress is not None
        self.progress.remove_task(self.bars.pop(job))
        self.done[job] = self.total[job]
        print_parts([Text(line, style)], self.console)

    def _left(self, done: float, total: float) -> str:
        fresh = done - self.before
        if fresh <= 0:
            return ""
        return f"{duration((time.monotonic() - self.started) / fresh * (total - done))} left"


def _name(job: Job) -> str:
    return f"{job.label} · seed {job.seed}"
