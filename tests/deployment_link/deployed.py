"""Hold a server's link and sites in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.deployment.processes import processes_of, wait_until
from fedmosaic.distributed.keys import ServerKeys, create_keys
from fedmosaic.distributed.link import Delivery
from fedmosaic.engines.flower.superlink import FlowerLink

MAX_BYTES = 20_000_000
WRONG_CLOCK = """
import time
right = time.time
time.time = lambda: right() + {ahead}
"""


class DeployedSite:
    """Run :mod:`.echo_site` in a process.

    Attributes:
        folder: the node's folder, which is new for each name.

    Args:
        ahead: seconds that its clock is ahead.
    """

    def __init__(
        self, root: Path, name: str, port: int, keys: Path | None, ahead: float = 0.0
    ) -> None:
        self.name = name
        self.path = os.pathsep.join(sys.path)
        if ahead:
            clock = root / "clock"
            clock.mkdir()
            (clock / "sitecustomize.py").write_text(WRONG_CLOCK.format(ahead=ahead))
            self.path = os.pathsep.join([str(clock), self.path])
        self.folder = root / f"site-{name}"
        self.log = root / f"{name}.log"
        arguments = [name, f"127.0.0.1:{port}", str(self.folder), *([str(keys)] if keys else [])]
        self.command = [sys.executable, "-m", "deployment_link.echo_site", *arguments]
        self.start()

    def start(self) -> None:
        """Start it, perhaps not for the first time."""
        variables = {**os.environ, "PYTHONPATH": self.path}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=variables)

    def lines(self) -> str:
        """Return what it printed."""
        return self.log.read_text()

    def close(self) -> None:
        """Interrupt it as Ctrl-C does; nothing of it stays."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=20)
        wait_until(lambda: not processes_of(self.folder), 5, f"processes of {self.name} end")


class Deployment:
    """Run a link and one site for each name.

    Attributes:
        site_of: the site behind each node.
    """

    def __init__(self, root: Path, names: str = "abc", secure: bool = True) -> None:
        self.root = root
        self.keys = root / "keys" if secure else None
        if self.keys is not None:
            create_keys(self.keys, list(names))
        self.folder = root / "server"
        self.events: list[str] = []
        self.link = FlowerLink(
            self.folder,
            None if self.keys is None else ServerKeys.read(self.keys),
            max_bytes=MAX_BYTES,
            on_event=self.events.append,
        )
        self.port = self.link.address[1]
        self.sites: dict[str, DeployedSite] = {}
        self.nodes: dict[str, str] = {}
        for name in names:
            self.sites[name] = DeployedSite(root, name, self.port, self.keys)
        wait_until(lambda: len(self.link.nodes()) == len(names), 30, "all sites connect")
        for node in self.link.nodes():
            found = self.wait_for(self.link.send(node, b"name", 20), 20)
            self.nodes[found.payload.decode()] = node

    def move(self, name: str, port: int) -> None:
        """Let a site connect through another port."""
        self.sites[name].close()
        wait_until(lambda: self.nodes[name] not in self.link.nodes(), 10, f"{name} leaves")
        before = self.link.nodes()
        self.sites[name] = DeployedSite(self.root, name, port, self.keys)
        wait_until(lambda: len(self.link.nodes()) > len(before), 20, f"{name} connects")
        (self.nodes[name],) = self.link.nodes() - before

    def ask(self, name: str, payload: bytes, seconds: float = 20) -> Delivery:
        """Send a request to a site and wait for what comes back."""
        return self.wait_for(self.link.send(self.nodes[name], payload, seconds), seconds + 5)

    def wait_for(self, request: str, seconds: float) -> Delivery:
        """Wait for what comes back for a request; nothing else may come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for found in self.link.receive(0.2):
                assert found.request == request
                return found
        raise AssertionError(f"nothing came within {seconds} s; {self.events}")

    def close(self) -> None:
        """End everything; no process may stay."""
        try:
            for site in self.sites.values():
                site.close()
        finally:
            for site in self.sites.values():
                site.process.kill()
            self.link.close()
        wait_until(lambda: not processes_of(self.root), 5, "all processes end")
