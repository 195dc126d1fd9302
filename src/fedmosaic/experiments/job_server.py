"""Start the processes of a grid's runs, forked where there are several."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import IO, Any

from fedmosaic.config import RunSettings
from fedmosaic.federation.processes import ForkedProcess, ForkServer, may_fork, start_process
from fedmosaic.models.options import resolve_device

JOB = "fedmosaic.experiments.job"


class JobServer:
    """Start a process for each of some runs.

    The process that is forked for them begins with the first. The number of threads is a variable
    that is read at import, so it has the runs' number if it is the same for all; each run sets its
    own as well.

    Args:
        runs: their settings. A single run gets a fresh interpreter, and so do runs on a GPU.
    """

    def __init__(self, runs: Sequence[RunSettings]) -> None:
        self._threads = [settings.threads for settings in runs]
        devices = {resolve_device(settings.scenario.models.device).type for settings in runs}
        self._forks = len(runs) > 1 and devices == {"cpu"} and may_fork()
        self._server: ForkServer | None = None

    def start(self, threads: int, log: IO[Any]) -> subprocess.Popen[bytes] | ForkedProcess:
        """Start the process of one run.

        Args:
            threads: its PyTorch threads; 0 for PyTorch's own choice.
            log: file for its standard error.
        """
        if self._server is None and self._forks:
            common = threads if len(set(self._threads)) == 1 else 0
            self._server = ForkServer(JOB, _variables(common))
        return start_process(
            JOB,
            self._server,
            environment=_variables(threads),
            stderr=log,
            new_session=True,  # Ctrl-C reaches only the command, which closes the pipes
        )

    def close(self) -> None:
        """End what is forked; the runs end with their pipes."""
        if self._server is not None:
            self._server.close()


def _variables(threads: int) -> dict[str, str]:
    variables = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    found = {name: os.environ.get(name, value) for name, value in variables.items()}
    return found | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
