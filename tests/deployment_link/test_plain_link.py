"""Test the link without TLS, from a folder whose path is too long for a socket."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks.deployment.processes import process_of, processes_of, wait_until
from deployment_link.deployed import Deployment

pytest.importorskip("flwr")

from fedmosaic.distributed.keys import ClientKeys, ServerKeys, create_keys
from fedmosaic.engines.flower import superlink
from fedmosaic.engines.flower.connection import serve_site
from fedmosaic.engines.flower.superlink import FlowerLink
from fedmosaic.errors import ConfigError, LinkError, SiteError

pytestmark = pytest.mark.deployment


def test_a_plain_link(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 25)
    root.mkdir()
    deployment = Deployment(root, "a", secure=False)
    place = deployment.link.files.socket
    try:
        assert place.parent.parent != root
        assert deployment.ask("a", b"hello").payload == b"hello"

        create_keys(tmp_path / "keys", ["a"])
        server, keys = f"127.0.0.1:{deployment.port}", ClientKeys.read(tmp_path / "keys", "a")
        with pytest.raises(SiteError, match="speaks plain text"):
            serve_site(bytes, server=server, keys=keys, folder=tmp_path / "b")
        with pytest.raises(ConfigError, match=r"another process uses .*site-a"):
            serve_site(bytes, server=server, keys=None, folder=deployment.sites["a"].folder)
    finally:
        deployment.close()
    assert not place.parent.exists()


@pytest.mark.skipif(os.environ.get("FEDMOSAIC_SLOW") != "1", reason="FEDMOSAIC_SLOW=1 runs it")
def test_a_superlink_that_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superlink, "SILENCE_SECONDS", 12.0)
    deployment = Deployment(tmp_path, "a", secure=False)
    try:
        request = deployment.link.send(deployment.nodes["a"], b"sleep 60", 90)
        os.kill(process_of(deployment.folder, "flower-superlink"), signal.SIGSTOP)
        found = deployment.wait_for(request, 30)
        assert found.error == superlink.LOST
        wait_until(lambda: deployment.link.nodes() != set(), 30, "the site is back")
    finally:
        deployment.close()


def test_two_servers_cannot_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superlink, "LOCK_SECONDS", 0.1)
    with superlink._lock(tmp_path), pytest.raises(ConfigError, match="another process uses"):
        FlowerLink(tmp_path, None)


def test_a_server_says_why_it_does_not_start(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys", ["a"])
    keys = ServerKeys.read(tmp_path / "keys")
    keys.key.write_text("nothing")
    with pytest.raises(
        LinkError, match=r"^flower-superlink did not start: .*(PEM|SSL).* \(log: [^\n]*\)$"
    ):
        FlowerLink(tmp_path / "server", keys)
    assert not processes_of(tmp_path / "server")


def test_a_site_gives_up_when_its_patience_is_over(tmp_path: Path) -> None:
    events: list[str] = []
    started = time.monotonic()
    with pytest.raises(LinkError, match=r"no connection to 127\.0\.0\.1:9 for"):
        serve_site(
            bytes,
            server="127.0.0.1:9",
            keys=None,
            folder=tmp_path,
            on_event=events.append,
            patience=5.0,
        )
    assert time.monotonic() - started < 20
    assert events[0] == "cannot reach 127.0.0.1:9: Connection refused; trying again in 1 s"
    assert not processes_of(tmp_path)


@pytest.mark.parametrize("server", ["host", "host:", ":9092", "host:port", "host:70000"])
def test_an_address_that_is_none(tmp_path: Path, server: str) -> None:
    with pytest.raises(ConfigError, match="is not HOST:PORT"):
        serve_site(bytes, server=server, keys=None, folder=tmp_path)
