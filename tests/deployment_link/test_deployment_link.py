"""Test the link of a deployment: TLS, known keys, refusals, and every process killed.

The tests of this file share one server and its sites, which takes some seconds to start.
"""

from __future__ import annotations

import http.client
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.deployment.processes import (
    listening_addresses,
    process_of,
    processes_of,
    wait_until,
)
from benchmarks.deployment.proxy import DroppingProxy
from deployment_link.deployed import MAX_BYTES, Deployment

pytest.importorskip("flwr")

from fedmosaic.distributed.keys import ClientKeys, add_client, create_keys
from fedmosaic.engines.flower.connection import serve_site
from fedmosaic.errors import SiteError

pytestmark = pytest.mark.deployment

SLOW = os.environ.get("FEDMOSAIC_SLOW") == "1"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    yield made
    made.close()


def refused(
    deployment: Deployment, keys: ClientKeys | None, folder: Path, host: str = "127.0.0.1"
) -> str:
    """Return the one line with which a site stops that is not let in."""
    events: list[str] = []
    with pytest.raises(SiteError) as error:
        serve_site(
            lambda payload: payload,
            server=f"{host}:{deployment.port}",
            keys=keys,
            folder=folder,
            on_event=events.append,
            patience=20,
        )
    assert not events and "\n" not in str(error.value)
    assert not processes_of(folder)
    return str(error.value)


def test_answers_come_from_the_site_that_was_asked(deployment: Deployment) -> None:
    sent = {name: os.urandom(size) for name, size in (("a", 0), ("b", 1), ("c", 7_000_000))}
    requests = {
        deployment.link.send(deployment.nodes[name], payload, 60): name
        for name, payload in sent.items()
    }
    end = time.monotonic() + 60
    while requests and time.monotonic() < end:
        for found in deployment.link.receive(1.0):
            name = requests.pop(found.request)
            assert (found.node, found.error) == (deployment.nodes[name], "")
            assert found.payload == sent[name]
    assert not requests


def test_a_request_takes_under_two_seconds(deployment: Deployment) -> None:
    deployment.ask("a", b"first")
    started = time.monotonic()
    assert deployment.ask("a", bytes(1000)).payload == bytes(1000)
    assert time.monotonic() - started < 2


def test_a_key_that_is_not_registered_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    assert deployment.keys is not None
    stranger = ClientKeys.read(add_client(deployment.keys, "d"), "d")
    assert "does not know this client's key" in refused(deployment, stranger, tmp_path)


def test_a_server_of_another_authority_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    create_keys(tmp_path / "keys", ["a"])
    other = ClientKeys.read(tmp_path / "keys", "a")
    line = refused(deployment, other, tmp_path / "site")
    assert "not the server of this federation" in line and str(other.ca) in line


def test_a_server_of_another_name_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    assert deployment.keys is not None
    keys = ClientKeys.read(deployment.keys, "a")
    host = "0.0.0.0"  # reaches this machine, and the certificate is not for it
    assert "is not for '0.0.0.0'" in refused(deployment, keys, tmp_path, host)


def test_plain_text_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    assert "expects TLS" in refused(deployment, None, tmp_path)


def test_a_second_process_with_one_key_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    assert deployment.keys is not None
    line = refused(deployment, ClientKeys.read(deployment.keys, "a"), tmp_path)
    assert "another process is connected" in line
    assert deployment.ask("a", b"still there").payload == b"still there"


def test_nothing_listens_beyond_loopback(deployment: Deployment) -> None:
    found = listening_addresses(set(processes_of(deployment.folder)))
    assert found and all(address.startswith("0100007F:") for address in found), found
    assert f"0100007F:{deployment.port:04X}" in found


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/control/start-run", 404),
        ("POST", "/v1/runtime/acquire-task", 404),
        ("GET", "/docs", 404),
        ("POST", "/v1/fleet/pull-messages", 403),
        ("GET", "/v1/fleet/../control/start-run", 403),
    ],
)
def test_strangers_reach_nothing_of_flower(
    deployment: Deployment, method: str, path: str, status: int
) -> None:
    assert deployment.keys is not None
    context = ssl.create_default_context(cafile=str(deployment.keys / "server" / "ca.crt"))
    connection = http.client.HTTPSConnection("127.0.0.1", deployment.port, context=context)
    connection.request(method, path)
    assert connection.getresponse().status == status
    connection.close()


def test_an_answer_over_the_limit_comes_back_as_an_error(deployment: Deployment) -> None:
    found = deployment.ask("a", f"make {MAX_BYTES + 1}".encode())
    assert f"over {MAX_BYTES} bytes" in found.error and not found.payload
    assert len(deployment.ask("a", f"make {MAX_BYTES}".encode()).payload) == MAX_BYTES


def test_signs_of_life_go_on_while_the_site_works(deployment: Deployment) -> None:
    request = deployment.link.send(deployment.nodes["b"], b"sleep 3", 30)
    assert deployment.ask("a", b"meanwhile").payload == b"meanwhile"
    assert deployment.nodes["b"] in deployment.link.nodes()
    assert deployment.wait_for(request, 10).payload == b"sleep 3"


def test_a_killed_node_process_loses_nothing(deployment: Deployment) -> None:
    site = deployment.sites["a"]
    request = deployment.link.send(deployment.nodes["a"], b"sleep 2.0", 30)
    wait_until(lambda: "answering b'sleep 2.0'" in site.lines(), 5, "it works on the answer")
    os.kill(process_of(site.folder, "flower.node"), signal.SIGKILL)
    assert deployment.wait_for(request, 20).payload == b"sleep 2.0"
    assert not list(site.folder.glob("*.request"))
    assert deployment.ask("a", b"next").payload == b"next"
    assert site.lines().count("answering b'sleep 2.0'") == 1


def test_a_killed_site_answers_when_it_is_back(deployment: Deployment) -> None:
    site = deployment.sites["b"]
    request = deployment.link.send(deployment.nodes["b"], b"sleep 2", 40)
    wait_until(lambda: "answering b'sleep 2'" in site.lines(), 5, "it works on the answer")
    site.process.kill()
    site.process.wait()
    wait_until(lambda: not processes_of(site.folder), 5, "its node process ends with it")
    site.start()
    found = deployment.wait_for(request, 20)
    assert (found.payload, found.error) == (b"sleep 2", "")


def test_a_link_that_drops_everything_for_a_while(deployment: Deployment) -> None:
    proxy = DroppingProxy(deployment.port)
    deployment.move("c", proxy.port)
    site = deployment.sites["c"]
    request = deployment.link.send(deployment.nodes["c"], b"sleep 1", 200)
    wait_until(lambda: any(site.folder.glob("*.request")), 5, "the request is taken")
    proxy.cut()
    threading.Timer(60 if SLOW else 10, proxy.mend).start()
    found = deployment.wait_for(request, 150 if SLOW else 60)
    assert proxy.whole.is_set()
    assert (found.payload, found.error) == (b"sleep 1", ""), site.lines()
    assert "trying again in" in site.lines()


@pytest.mark.parametrize("word", ["flwr-serverapp", "flower-superexec", "flower-superlink"])
def test_a_killed_process_of_the_server_is_replaced(deployment: Deployment, word: str) -> None:
    request = deployment.link.send(deployment.nodes["a"], b"sleep 20", 60)
    os.kill(process_of(deployment.folder, word), signal.SIGKILL)
    found = deployment.wait_for(request, 10)
    assert found.error and not found.payload
    wait_until(lambda: len(deployment.link.nodes()) == 3, 60, "all sites back")
    assert deployment.events[-1] == f"listening at 127.0.0.1:{deployment.port}"
