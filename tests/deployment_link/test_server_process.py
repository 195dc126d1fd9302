"""Test that a server that is killed leaves nothing, and that the next one goes on in its place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.deployment.processes import processes_of, wait_until
from deployment_link.deployed import DeployedSite

pytest.importorskip("flwr")

from fedmosaic.distributed.keys import create_keys

pytestmark = pytest.mark.deployment


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class ServerProcess:
    def __init__(self, root: Path, port: int) -> None:
        self.folder = root / "server"
        self.log = root / f"server-{len(list(root.glob('server-*')))}.log"
        arguments = [str(self.folder), str(root / "keys"), str(port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployment_link.echo_server", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def wait_for(self, line: str) -> None:
        wait_until(lambda: line in self.log.read_text(), 40, f"{line!r} in {self.log}")

    def is_gone(self) -> bool:
        return not processes_of(self.folder)


def test_a_server_that_is_killed_and_one_in_its_place(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys", ["a"])
    port, day = free_port(), 86_400.0
    server = ServerProcess(tmp_path, port)
    site = DeployedSite(tmp_path, "a", port, tmp_path / "keys", day)  # is there before the server
    try:
        server.wait_for("answer hello")
        assert "trying again in" in site.lines()
        assert "this machine's clock is 86400 s ahead of the server's" in site.lines()

        server.process.kill()
        server.process.wait()
        server = ServerProcess(tmp_path, port)  # at once, while the port may still be taken
        server.wait_for("answer hello")

        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=20) != 0
        wait_until(server.is_gone, 5, "all processes of the server end after Ctrl-C")
        assert "closed" in server.log.read_text()
        site.close()
        assert "interrupted" in site.lines()
    finally:
        server.process.kill()
        site.process.kill()
