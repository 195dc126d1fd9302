"""Carry out many runs in processes of their own, as many at a time as cores and memory allow.

The same call continues after any interruption: finished runs are kept, interrupted runs are
resumed, and a run that had not written its settings starts again. When a run fails, the failure is
reported and the others continue.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.errors import CheckpointError
from fedmosaic.experiments.job_server import JobServer
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.memory import available_memory


@dataclass(frozen=True, eq=False)
class Job:
    """Describe one run of a grid.

    Attributes:
        label: name of the variant.
        seed: seed of the run.
        folder: its run folder.
        settings: its settings.
    """

    label: str
    seed: int
    folder: Path
    settings: RunSettings

    @property
    def log(self) -> Path:
        """Return the file for the process's standard error; removed when the run is done."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def summary(self) -> dict[str, Any] | None:
        """Return the summary of the run; None if it is not finished."""
        return RunFolder(self.folder).summary()


@dataclass(frozen=True)
class Failure:
    """Describe a run that did not finish.

    Attributes:
        label: name of the variant.
        seed: seed of the run.
        reason: the error.
        lost: whether its process died without an error message, so that another attempt may
            succeed.
    """

    label: str
    seed: int
    reason: str
    lost: bool = False


class GridListener:
    """Ignore every event of a grid; subclasses override the methods they need."""

    def grid_started(
        self, title: str, jobs: Sequence[Job], finished: Sequence[Job], parallel: int
    ) -> None:
        """Handle the start of a grid.

        Args:
            title: name of the grid.
            jobs: all runs.
            finished: the runs that were finished before.
            parallel: the most runs at a time.
        """

    def job_started(self, job: Job) -> None:
        """Handle the start of a process."""

    def job_progress(self, job: Job, rounds: float, of: int, first: int | None) -> None:
        """Handle the progress of a run.

        Args:
            job: the run.
            rounds: rounds done, with the share of the present one.
            of: rounds of the run.
            first: rounds done before this process; only at its start, else None.
        """

    def job_finished(self, job: Job, summary: Mapping[str, Any]) -> None:
        """Handle a finished run."""

    def job_failed(self, job: Job, reason: str) -> None:
        """Handle a run that ended with an error."""

    def grid_closed(self) -> None:
        """Release resources. Called last, whether the grid finished or not."""


def run_grid(
    title: str,
    jobs: Sequence[Job],
    parallel: int,
    listener: GridListener,
    features: Path | None = None,
) -> list[Failure]:
    """Carry out all jobs. All processes have ended when this returns or raises.

    Args:
        title: name of the grid, for the listener.
        jobs: the runs.
        parallel: the most runs at a time.
        listener: is notified of every event.
        features: a file in which the jobs share image features, see
            :class:`fedmosaic.models.feature_database.FeatureDatabase`; None for none.

    Returns:
        the runs that failed.
    """
    finished = [job for job in jobs if job.summary() is not None]
    grid = _Grid([job for job in jobs if job not in finished], parallel, listener, features)
    listener.grid_started(title, jobs, finished, parallel)
    try:
        return grid.run()
    finally:
        grid.close()
        listener.grid_closed()


class _Grid:
    """Hold the processes of a grid, the events they send and the memory they need."""

    def __init__(
        self,
        waiting: Sequence[Job],
        parallel: int,
        listener: GridListener,
        features: Path | None = None,
    ) -> None:
        self.waiting = list(waiting)
        self.features = features
        self.server = JobServer([job.settings for job in self.waiting])
        self.parallel = parallel
        self.listener = listener
        self.running: list[_Process] = []
        self.events: queue.Queue[tuple[_Process, dict[str, Any] | None]] = queue.Queue()
        self.peak: int | None = None
        self.failures: list[Failure] = []

    def run(self) -> list[Failure]:
        while self.waiting or self.running:
            while self.waiting and self._has_room():
                job = self.waiting.pop(0)
                self.running.append(_Process(job, self.events, self.features, self.server))
                self.listener.job_started(job)
            self._handle(*self.events.get())
        return self.failures

    def _has_room(self) -> bool:
        """Return whether one more run may start.

        The first run is alone until its memory is known. Others start while every running one,
        and the new one, can grow to the peak seen so far.
        """
        if not self.running:
            return True
        if len(self.running) >= self.parallel or self.peak is None:
            return False
        free = available_memory()
        growth = self.peak + sum(max(0, self.peak - process.memory) for process in self.running)
        return free is None or growth < free

    def _handle(self, process: _Process, event: dict[str, Any] | None) -> None:
        if event is None:
            self.running.remove(process)
            self._ended(process)
            return
        if "memory" in event:
            process.memory = event["memory"]
            self.peak = max(self.peak or 0, process.memory)
        process.failed = event.get("failed", process.failed)
        if "rounds" in event:
            process.of = event.get("of", process.of)
            self.listener.job_progress(process.job, event["rounds"], process.of, event.get("first"))

    def _ended(self, process: _Process) -> None:
        job, code = process.job, process.close()
        summary = job.summary()
        if summary is not None:
            job.log.unlink(missing_ok=True)
            self.listener.job_finished(job, summary)
            return
        reason = process.failed or (
            f"its process ended unexpectedly (exit {code}), perhaps for lack of memory; see "
            f"{job.log}. The same command continues from here"
        )
        self.failures.append(Failure(job.label, job.seed, reason, lost=not process.failed))
        self.listener.job_failed(job, reason)

    def close(self) -> None:
        self.server.close()  # first: processes that it has not started yet need no wait
        for process in self.running:
            process.close()


class _Process:
    """Hold the process of one job.

    When this process ends in any way, the pipe closes and the job's process ends, too.
    """

    def __init__(
        self,
        job: Job,
        events: queue.Queue[tuple[_Process, dict[str, Any] | None]],
        features: Path | None,
        server: JobServer,
    ) -> None:
        self.job = job
        self.memory = 0
        self.of = job.settings.scenario.rounds
        self.failed = ""
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            self.process = server.start(job.settings.threads, log)
        settings = with_known_rehearsal(job).model_dump(mode="json")
        assert self.process.stdin is not None
        try:
            request = {
                "folder": str(job.folder),
                "settings": settings,
                "features": features and str(features),
            }
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            self.failed = "its process could not be started"
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: queue.Queue[tuple[_Process, dict[str, Any] | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # a killed process may leave half a line
                events.put((self, json.loads(line)))
        events.put((self, None))

    def close(self) -> int:
        """End the process if it has not ended; return its exit status."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            return self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def with_known_rehearsal(job: Job) -> RunSettings:
    """Return the job's settings with the rehearsal of another seed of the same label.

    A rehearsal does not depend on the seed.
    """
    for config in sorted(job.folder.parent.glob("seed-*/config.yaml")):
        known = None
        with contextlib.suppress(CheckpointError):  # a run that is refused now removes its folder
            known = RunFolder.open(config.parent)[1].rehearsal
        if known is not None:
            return job.settings.model_copy(update={"rehearsal": known})
    return job.settings
