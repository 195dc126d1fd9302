"""Start Flower's processes on the server: the SuperLink, the SuperExec and the relay's app."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import IO

from fedmosaic.engines.flower.children import Child, child_environment
from fedmosaic.engines.flower.commands import run_commands
from fedmosaic.engines.flower.guarded import FRONT_VARIABLE
from fedmosaic.engines.flower.superlink_files import SuperLinkFiles
from fedmosaic.errors import LinkError
from fedmosaic.frames import Header, read_frame, write_frame

START_SECONDS = 90.0
SOCKET_VARIABLE = "FEDMOSAIC_RELAY"


class FlowerProcesses:
    """Run one SuperLink with a relay; where one of them ends, all are replaced.

    Args:
        files: files that they start from.
        listen: host and port where sites connect; port 0 for any that is free.
        max_bytes: largest answer of a site.
        waiting: where the relay connects.
        stop: gives the start up when it is set.

    Raises:
        LinkError: they do not start.
    """

    def __init__(
        self,
        files: SuperLinkFiles,
        listen: tuple[str, int],
        max_bytes: int,
        waiting: socket.socket,
        stop: threading.Event,
    ) -> None:
        self.files = files
        self.stop = stop
        self.children: list[Child] = []
        self.connection: socket.socket | None = None
        self._end = time.monotonic() + START_SECONDS
        try:
            inner, self.port = self._start_superlink(listen, max_bytes)
            self._start_superexec(inner)
            self._start_relay(inner)
            self.connection = self._accept(waiting)
        except BaseException:
            self.close()
            raise
        self._requests: IO[bytes] = self.connection.makefile("wb")
        self._answers: IO[bytes] = self.connection.makefile("rb")

    def ended(self) -> str:
        """Return which of the processes has ended, and what it printed last; empty if none."""
        for child in self.children:
            if child.ended():
                return f"{child.name} has ended (log: {child.log})"
        return ""

    def send(self, header: Header, payload: bytes) -> None:
        """Send a request to the relay.

        Raises:
            OSError: it is gone.
        """
        write_frame(self._requests, header, payload)

    def receive(self) -> tuple[Header, bytes] | None:
        """Wait for what the relay sends; None if it is gone."""
        try:
            return read_frame(self._answers)
        except OSError:
            return None

    def close(self) -> None:
        """End the processes, and with them the connection."""
        for child in reversed(self.children):
            child.close()
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    def _start_superlink(self, listen: tuple[str, int], max_bytes: int) -> tuple[int, int]:
        """Start the SuperLink; return its inner and its outer port."""
        files = self.files
        files.ports.unlink(missing_ok=True)
        front = {
            "listen": listen,
            "ports": str(files.ports),
            "keys": None if files.keys is None else str(files.registered),
            "max_bytes": max_bytes,
        }
        # Its state is in memory: what it loses, the protocol above sends again. State in a file
        # would outlive the run of the relay that it belongs to.
        command = ["flower-superlink", "--isolation", "process", "--host", "127.0.0.1"]
        command += ["--superexec-auth-secret-file", str(files.secret), *files.tls(server=True)]
        child = self._start(command, {FRONT_VARIABLE: json.dumps(front)})
        while not files.ports.exists():
            self._check(child)
            time.sleep(0.05)
        ports = json.loads(files.ports.read_text())
        return ports["inner"], ports["outer"]

    def _start_superexec(self, port: int) -> None:
        """Start the SuperExec, which starts the process of an app."""
        command = ["flower-superexec", "--runtime-api-address", f"127.0.0.1:{port}"]
        command += ["--superexec-auth-secret-file", str(self.files.secret)]
        command += self.files.tls(server=False)
        self._start(command, {SOCKET_VARIABLE: str(self.files.socket)})

    def _start_relay(self, port: int) -> None:
        """Register the clients' keys, and submit the relay's app."""
        files = self.files
        files.write_connection(port)
        keys = [] if files.keys is None else sorted(files.keys.clients)
        commands = [
            ["supernode", "register", str(files.keys.folder / "clients" / f"{name}.pub"), "server"]
            for name in keys
            if files.keys is not None
        ]
        commands.append(["run", str(files.app), "server"])
        try:
            run_commands(commands, child_environment(files.variables()))
        except LinkError:
            for child in self.children:
                self._check(child)  # which says more than a command that cannot connect
            raise

    def _accept(self, waiting: socket.socket) -> socket.socket:
        """Wait for the relay."""
        waiting.settimeout(0.1)
        while True:
            with contextlib.suppress(TimeoutError):
                connection = waiting.accept()[0]
                connection.settimeout(None)
                return connection
            for child in self.children:
                self._check(child)

    def _start(self, command: list[str], variables: dict[str, str]) -> Child:
        environment = child_environment({**self.files.variables(), **variables})
        child = Child(command, environment, self.files.folder / f"{command[0]}.log")
        self.children.append(child)
        return child

    def _check(self, child: Child) -> None:
        """Check that a process still runs, and that the start has not taken too long."""
        if child.ended():
            raise LinkError(f"{child.name} did not start: {child.tail()} (log: {child.log})")
        if self.stop.is_set():
            raise LinkError("the link was closed")
        if time.monotonic() > self._end:
            raise LinkError(f"Flower did not start within {START_SECONDS:.0f} s (log: {child.log})")
