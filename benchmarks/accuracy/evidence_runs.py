"""Run what a part of the evidence lacks, and store the figures of each run when it is finished.

The runs of all rows whose learning rates are chosen go together, with all seeds, and with the
trials of the next row, so that no core waits for the last run of a row. A run that was stopped
half-way is resumed if its folder is there.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from benchmarks.accuracy.evidence_file import figures_of
from benchmarks.accuracy.evidence_identity import RunIdentity
from benchmarks.accuracy.evidence_rows import EvidenceRow, in_running_order
from benchmarks.accuracy.evidence_store import PartStore, Trials
from fedmosaic.experiments.grid import GridListener, Job, run_grid

SIDES = ("self", "others")


class OutOfTimeError(Exception):
    """Report that the time of the command is over."""


class Recorder(GridListener):
    """Store the figures of each finished run, and stop the grid when the time is over.

    Args:
        store: what is stored of the part.
        trials: the runs that choose learning rates; all others are runs of the part.
        deadline: when to stop, in seconds of ``time.monotonic``; None: never.
        keep: whether the folders of runs stay when their figures are stored. Else those of a row
            go together, since its runs share what they count before the start.
    """

    def __init__(
        self,
        store: PartStore,
        trials: Trials,
        deadline: float | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self.store = store
        self.trials = trials
        self.deadline = deadline
        self.keep = keep
        self._recorded: list[Job] = []  # their folders are still there
        self._left: Counter[Path] = Counter()  # runs to come by the folder of their row

    def grid_started(
        self, title: str, jobs: Sequence[Job], finished: Sequence[Job], parallel: int
    ) -> None:
        self._left.update(job.folder.parent for job in jobs)
        for job in finished:  # by a command that was killed before it stored them
            self.record(job, job.summary() or {})

    def job_started(self, job: Job) -> None:
        self.check_time()

    def job_progress(self, job: Job, rounds: float, of: int, first: int | None) -> None:
        self.check_time()

    def job_finished(self, job: Job, summary: Mapping[str, Any]) -> None:
        self.record(job, summary)
        self.check_time()

    def job_failed(self, job: Job, reason: str) -> None:
        self._ended(job)

    def record(self, job: Job, summary: Mapping[str, Any]) -> None:
        """Store a finished run."""
        shown = ", ".join(f"{side} {100 * summary[side]['last']:.1f}" for side in SIDES)
        seconds = summary["seconds"]["total"]
        print(f"{job.label}, seed {job.seed}: {shown}, {seconds:.0f} s", flush=True)
        identity = RunIdentity.of(job.settings)
        if job in self.trials:
            scores = {side: round(100 * summary[side]["last"], 3) for side in SIDES}
            self._add_trial(job, identity, scores)
        else:
            figures = figures_of(self.store.part, summary, identity)
            self.store.file.add_run(job.label, job.seed, figures)
        self._recorded.append(job)
        self._ended(job)

    def record_failure(self, job: Job, reason: str) -> None:
        """Store that a run fails with these settings."""
        identity, failed = RunIdentity.of(job.settings), {"failed": reason}
        if job in self.trials:
            self._add_trial(job, identity, failed)
        else:
            self.store.file.add_run(job.label, job.seed, {**identity.stored, **failed})

    def check_time(self) -> None:
        """Raise OutOfTimeError when the time is over."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise OutOfTimeError

    def _ended(self, job: Job) -> None:
        """Remove the folders of a row's finished runs after its last one."""
        place = job.folder.parent
        self._left[place] -= 1
        if not self._left[place]:
            self.remove_folders(place)

    def remove_folders(self, place: Path | None = None) -> None:
        """Remove the folders of runs whose figures are stored.

        Args:
            place: only folders in this one; None: all.
        """
        gone = [job for job in self._recorded if place in (None, job.folder.parent)]
        self._recorded = [job for job in self._recorded if job not in gone]
        for job in () if self.keep else gone:
            shutil.rmtree(job.folder)

    def _add_trial(self, job: Job, identity: RunIdentity, scores: Mapping[str, Any]) -> None:
        label, candidate = self.trials[job]
        self.store.rates_file.add_trial(label, candidate, identity, job.seed, scores)


def run_jobs(recorder: Recorder, jobs: Sequence[Job], runs: Path, parallel: int) -> None:
    """Carry out jobs and store what they give.

    Args:
        recorder: stores the figures.
        jobs: runs of the part and trials.
        runs: folder of the run folders.
        parallel: runs at a time.

    Raises:
        OutOfTimeError: the time is over; unfinished runs can be resumed.
    """
    recorder.check_time()
    runs.mkdir(parents=True, exist_ok=True)
    features = _features(runs, recorder.store)
    try:
        failures = run_grid("evidence", jobs, parallel, recorder, features) if jobs else []
        for failure in failures:
            print(f"{failure.label}, seed {failure.seed}: {failure.reason}", flush=True)
            if not failure.lost:
                job = next(j for j in jobs if (j.label, j.seed) == (failure.label, failure.seed))
                recorder.record_failure(job, failure.reason)
    finally:
        recorder.remove_folders()


def choose_rate(
    store: PartStore, row: EvidenceRow, runs: Path, parallel: int, deadline: float | None
) -> None:
    """Carry out the trials that are missing for the choice of a row's learning rate."""
    before: set[tuple[str, str]] = set()
    while trials := store.missing_trials(row, runs):
        if set(trials.values()) <= before:  # a process was lost
            break
        before |= set(trials.values())
        run_jobs(Recorder(store, trials, deadline), list(trials), runs, parallel)
    if store.chosen(row) is None:
        print(f"{row.label}: left out, since no learning rate could be chosen", flush=True)


def run_rows(
    store: PartStore,
    rows: Sequence[EvidenceRow],
    seeds: Sequence[int],
    runs: Path,
    *,
    parallel: int = 2,
    deadline: float | None = None,
    keep: bool = False,
    replace: bool = False,
) -> bool:
    """Run what rows lack.

    Args:
        store: what is stored of the part.
        rows: the rows.
        seeds: the seeds that are wanted.
        runs: folder of the run folders.
        parallel: runs at a time.
        deadline: when to stop, in seconds of ``time.monotonic``; None: when all is done.
        keep: whether the folders of finished runs stay.
        replace: whether runs that stand are run as well.

    Returns:
        Whether all was done in time.
    """
    waiting = in_running_order(rows)
    try:
        while waiting:
            choose_rate(store, waiting[0], runs, parallel, deadline)
            chosen = takewhile(lambda row: not store.missing_trials(row), waiting[1:])
            ready = [waiting[0], *chosen]
            waiting = waiting[len(ready) :]
            jobs = [j for r in ready for j in store.missing_runs(r, seeds, runs, replace=replace)]
            for job in jobs if replace else ():
                shutil.rmtree(job.folder, ignore_errors=True)
            trials = store.missing_trials(waiting[0], runs) if waiting else {}
            recorder = Recorder(store, trials, deadline, keep=keep)
            run_jobs(recorder, [*jobs, *trials], runs, parallel)
    except OutOfTimeError:
        return False
    finally:
        for file in runs.glob(f"{_features(runs, store).name}*"):
            file.unlink()
    return True


def _features(runs: Path, store: PartStore) -> Path:
    """Return the file in which the runs of a part share image features."""
    return runs / f".features-{store.part}.sqlite"
