"""Prepare the process that is forked for every run of a grid."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fedmosaic.config import RunSettings
from fedmosaic.federation.processes import ForkServer, may_fork

JOB = "fedmosaic.experiments.job"


def job_server(runs: Sequence[RunSettings]) -> ForkServer | None:
    """Return a fork server for several runs; None where fresh interpreters are started.

    Threads are an environment variable that is read at import. So the server has the runs' number
    if it is the same for all; each run sets its own when it starts.
    """
    if len(runs) < 2 or not may_fork():
        return None
    threads = {settings.threads for settings in runs}
    return ForkServer(JOB, job_variables(threads.pop() if len(threads) == 1 else 0))


def job_variables(threads: int) -> dict[str, str]:
    """Return the variables of a run's environment.

    Args:
        threads: PyTorch threads of the run; 0 for PyTorch's own choice.
    """
    variables = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    found = {name: os.environ.get(name, value) for name, value in variables.items()}
    return found | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
