"""Start processes of Flower that end with this one, and end them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 5.0
TAIL_BYTES = 1500
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class Child:
    """Run a command of Flower under :mod:`.guarded`, in a session of its own.

    Args:
        command: a console script of Flower, and its arguments.
        environment: all its variables.
        log: file that its output is appended to.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = command[0]
        self.log = log
        with log.open("ab") as stream:
            self.start = os.fstat(stream.fileno()).st_size
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fedmosaic.engines.flower.guarded", *command],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    def ended(self) -> bool:
        """Return whether it has ended."""
        return self.process.poll() is not None

    def tail(self) -> str:
        """Return the last line that it printed."""
        with self.log.open("rb") as stream:
            stream.seek(self.start)
            lines = stream.read()[-TAIL_BYTES:].decode(errors="replace").split("\n")
        return next(
            (line.strip() for line in reversed(lines) if line.strip()), "it printed nothing"
        )

    def close(self) -> None:
        """End it, with all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=STOP_SECONDS)


def child_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's variables with others; Flower finds its commands by ``PATH``.

    Proxies are left out, through which Flower would also connect to this machine itself.
    """
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    own = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    return {**own, **variables, "PATH": path}
