"""Run the jobs of a comparison in this process."""

from __future__ import annotations

import queue
from typing import Any

from fedmosaic.errors import FedMosaicError
from fedmosaic.experiments.grid import Job
from fedmosaic.experiments.job import Reporter, perform


class Here:
    """Run a job in this process, in place of the process of its own."""

    def __init__(self, job: Job, events: queue.Queue[Any], *_: Any) -> None:
        self.job, self.memory, self.of, self.failed = job, 0, job.settings.scenario.rounds, ""
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            perform(
                job.folder, job.settings, Reporter(lambda event: events.put((self, dict(event))))
            )
        except FedMosaicError as error:
            events.put((self, {"failed": str(error)}))
        events.put((self, None))

    def close(self) -> int:
        return 0
