"""Run a command of fedmosaic in a process of its own, with its output in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def environment() -> dict[str, str]:
    """Return the variables of all programs: one thread, no hub, this checkout."""
    own = {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **own}


class ProgramProcess:
    """Run a command of fedmosaic, perhaps several times with the same arguments.

    Args:
        arguments: after ``python -m``.
        log: file that its output is appended to.
        variables: further variables of it and of what it starts.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self.command = [sys.executable, "-m", *arguments]
        self.log = log
        self.variables = dict(variables or {})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it in a session of its own."""
        variables = {**environment(), **self.variables}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=variables,
                start_new_session=True,
                preexec_fn=_heed_interrupts,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def ended(self) -> bool:
        """Return whether it has ended."""
        return self.process is None or self.process.poll() is not None

    def status(self) -> int | None:
        """Return its exit status; None while it runs."""
        return None if self.process is None else self.process.poll()

    def kill(self) -> None:
        """Kill it with SIGKILL, and it alone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def interrupt(self, seconds: float = 30.0) -> int:
        """Interrupt it as Ctrl-C does; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=seconds)

    def wait(self, seconds: float) -> int:
        """Wait until it has ended; return its exit status."""
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    def lines(self) -> str:
        """Return what it has printed."""
        return self.log.read_text(errors="replace") if self.log.is_file() else ""


def _heed_interrupts() -> None:
    """Let Ctrl-C work also where this process was started in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
