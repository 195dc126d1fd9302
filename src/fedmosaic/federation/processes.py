"""Start processes of this package, each fresh or forked from one that has everything imported.

A fresh interpreter needs seconds of processor time to import PyTorch and Transformers. So one
process, the fork server, imports them once, computes nothing, and is forked for each process that
is asked for. It is used where forking is safe: on Linux without a GPU. ``FEDMOSAIC_FORK=no`` starts
every process fresh; the numbers are the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

FORK_VARIABLE = "FEDMOSAIC_FORK"
SERVER = [sys.executable, "-m", "fedmosaic.federation.fork_server"]
NUMBER = struct.Struct("<i")


def may_fork() -> bool:
    """Return whether processes are forked: on Linux without a GPU, unless it is switched off.

    A driver's state does not survive a fork, so the device files are looked for, not the driver.
    """
    return (
        sys.platform == "linux"
        and os.environ.get(FORK_VARIABLE, "").lower() not in ("no", "0", "false")
        and not any(Path("/dev").glob("nvidia[0-9]*"))
        and not any(Path(f"/dev/{name}").exists() for name in ("kfd", "dxg"))
    )


class ForkedProcess:
    """Hold a process that the fork server made, with the methods of ``subprocess.Popen``.

    Attributes:
        stdin: the pipe to its standard input.
        stdout: the pipe from its standard output.
    """

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes], state: int) -> None:
        self.stdin = stdin
        self.stdout = stdout
        # A pipe on which the server writes the process's id, then its status. The process holds it
        # open, so that its end is seen even if the server is gone.
        self._state = state
        self._pid: int | None = None
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return its exit status, as ``Popen.poll``; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; return its status, −9 if the server is gone.

        Raises:
            TimeoutExpired: it has not ended in time.
        """
        if self._status is None:
            if self._pid is None:
                self._pid = self._read(timeout)
            status = self._read(timeout) if self._pid is not None else None
            self._status = -9 if status is None else status
            os.close(self._state)
        return self._status

    def kill(self) -> None:
        """Kill it."""
        if self.poll() is None and self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, 9)

    def _read(self, timeout: float | None) -> int | None:
        if timeout is not None and not select.select([self._state], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a forked process", timeout)
        found = os.read(self._state, NUMBER.size)
        return int(NUMBER.unpack(found)[0]) if len(found) == NUMBER.size else None


class ForkServer:
    """Run one process that imports everything and is forked on request.

    It starts to import at once. Processes that are asked for before it is ready start then. It ends
    when this object is closed, or its parent ends; what it forked lives on.

    Args:
        module: what it imports, with all that it imports.
        environment: variables that are set or changed for it.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self.socket, other = socket.socketpair()
        with other:
            self.process = subprocess.Popen(
                [*SERVER, str(other.fileno()), module],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env={**os.environ, **(environment or {})},
            )

    def start(
        self, module: str, environment: Mapping[str, str], stderr: int, new_session: bool
    ) -> ForkedProcess:
        """Ask for a process that calls ``main()`` of a module; see :func:`start_process`."""
        child_in, stdin = os.pipe()
        stdout, child_out = os.pipe()
        state, child_state = os.pipe()
        request = {
            "module": module,
            "environment": dict(environment),
            "folder": os.getcwd(),
            "new_session": new_session,
        }
        text = json.dumps(request).encode()
        given = [child_in, child_out, stderr, child_state]
        try:
            socket.send_fds(self.socket, [struct.pack("<Q", len(text))], given)
            self.socket.sendall(text)
        except OSError:
            pass  # the server was killed: the pipes close, and the process counts as killed
        finally:
            for handle in (child_in, child_out, child_state):
                os.close(handle)
        return ForkedProcess(os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"), state)

    def close(self) -> None:
        """End the server."""
        self.socket.close()
        self.process.kill()  # it may still be importing
        self.process.wait()


@contextlib.contextmanager
def fork_server(module: str, needed: bool = True) -> Iterator[ForkServer | None]:
    """Yield a fork server, or None where it is not needed or processes are not forked.

    Args:
        module: what it imports.
        needed: whether processes will be started.
    """
    server = ForkServer(module) if needed and may_fork() else None
    try:
        yield server
    finally:
        if server is not None:
            server.close()


def start_process(
    module: str,
    server: ForkServer | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    stderr: IO[Any] | None = None,
    new_session: bool = False,
) -> subprocess.Popen[bytes] | ForkedProcess:
    """Start a process that calls ``main()`` of a module, with pipes to and from it.

    Args:
        module: its full name.
        server: the server that is forked; None for a fresh interpreter.
        environment: variables that are set or changed for it.
        stderr: where its standard error goes; None for that of this process.
        new_session: whether Ctrl-C in the terminal does not reach it.
    """
    variables = {**os.environ, **(environment or {})}
    if server is not None:
        return server.start(module, variables, stderr.fileno() if stderr else 2, new_session)
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=variables,
        start_new_session=new_session,
    )
