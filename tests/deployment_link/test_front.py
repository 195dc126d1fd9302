"""Test what reaches a SuperLink: known keys, the Fleet API, and no more than may be read."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.engines.flower.front import HELLO, LARGEST_REQUEST, OVERHEAD, Front, same_user
from fedmosaic.engines.flower.rate import RateLimit

KEY, OTHER = "key of a", "key of nobody"
MAX_BYTES = 40_000_000
INNER, OUTER = 1111, 2222


class SuperLinkStub:
    """Read what comes, and answer with status 200.

    Attributes:
        taken: path and size of each request that was read to its end.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] != "http.request":
                return
            size += len(event["body"])
            more = event.get("more_body", False)
        self.taken.append((scope["path"], size))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def superlink() -> SuperLinkStub:
    return SuperLinkStub()


@pytest.fixture
def front(superlink: SuperLinkStub, tmp_path: Path) -> Front:
    (tmp_path / "keys.json").write_text(json.dumps({KEY: "a"}))
    return Front(superlink, INNER, tmp_path / "keys.json", MAX_BYTES)


def ask(
    front: Front,
    path: str,
    key: str = KEY,
    length: int = 0,
    port: int = OUTER,
    declared: int | None = None,
) -> tuple[int, bytes, int]:
    """Return status, body and the number of bytes that were read of a request."""
    read, sent = 0, []
    header = base64.b64encode(key.encode())
    shown = length if declared is None else declared
    headers = [(b"flwr-public-key", header), (b"content-length", b"%d" % shown)]

    async def receive() -> dict[str, Any]:
        nonlocal read
        part = min(2**20, length - read)
        read += part
        return {"type": "http.request", "body": bytes(part), "more_body": read < length}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "path": path, "headers": headers, "server": ("127.0.0.1", port)}
    asyncio.run(front({**scope, "client": ("127.0.0.1", 3333)}, receive, send))
    status = sent[0]["status"] if sent else 0
    return status, sent[-1]["body"] if sent else b"", read


def test_a_registered_key_reaches_the_fleet_api_alone(
    front: Front, superlink: SuperLinkStub
) -> None:
    assert ask(front, "/v1/fleet/pull-messages", length=100)[0] == 200
    for path in ("/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/v1/fleetx"):
        assert ask(front, path)[0] == 404
    assert superlink.taken == [("/v1/fleet/pull-messages", 100)]


def test_a_stranger_is_refused_before_its_request_is_read(
    front: Front, superlink: SuperLinkStub
) -> None:
    assert ask(front, "/v1/fleet/push-object", OTHER, 10_000_000)[::2] == (403, 0)
    assert not superlink.taken


def test_a_key_that_is_removed_is_refused_at_once(front: Front, tmp_path: Path) -> None:
    assert ask(front, "/v1/fleet/pull-messages")[0] == 200
    (tmp_path / "keys.json").write_text("{}")
    os.utime(tmp_path / "keys.json", (1, 1))
    assert ask(front, "/v1/fleet/pull-messages")[0] == 403


def test_a_long_request_is_refused_before_it_is_read(
    front: Front, superlink: SuperLinkStub
) -> None:
    assert ask(front, "/v1/fleet/push-object", length=LARGEST_REQUEST + 1)[::2] == (413, 0)
    # One that is longer than it says is not read to its end.
    read = ask(front, "/v1/fleet/push-object", length=2**31, declared=100)[2]
    assert read <= LARGEST_REQUEST + 2**20
    assert ask(front, "/v1/fleet/push-object", length=5, declared=-1)[0] == 413
    assert not superlink.taken


def test_an_answer_in_pieces_is_refused_where_it_gets_too_long(
    front: Front, superlink: SuperLinkStub
) -> None:
    piece = 10_000_000
    for _ in range(2):  # each answer is counted anew
        assert ask(front, "/v1/fleet/push-messages", length=500)[0] == 200
        for _ in range(MAX_BYTES // piece):
            assert ask(front, "/v1/fleet/push-object", length=piece)[0] == 200
    status, body, read = ask(front, "/v1/fleet/push-object", length=OVERHEAD + 1)
    assert (status, read) == (413, 0)
    assert str(MAX_BYTES) in json.loads(body)["refused"]


def test_the_greeting_says_who_is_known_and_was_there(front: Front) -> None:
    first = json.loads(ask(front, HELLO)[1])
    assert (first["registered"], first["seen"], first["max_bytes"]) == (True, None, MAX_BYTES)
    ask(front, "/v1/fleet/pull-messages")
    assert json.loads(ask(front, HELLO)[1])["seen"] < 5
    assert json.loads(ask(front, HELLO, OTHER)[1])["registered"] is False


def test_the_inner_port_obeys_the_same_user_alone(
    front: Front, superlink: SuperLinkStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "fedmosaic.engines.flower.front.same_user"
    monkeypatch.setattr(module, lambda *_: False)
    assert ask(front, "/v1/control/start-run", port=INNER)[0] == 403
    assert ask(front, "/v1/runtime/pull-messages", port=INNER)[0] == 200  # needs a task's token
    monkeypatch.setattr(module, lambda *_: True)
    assert ask(front, "/v1/control/start-run", port=INNER)[0] == 200


def test_the_owner_of_a_connection_is_found() -> None:

    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            assert same_user(client.getsockname(), server.getsockname())
        assert not same_user(("127.0.0.1", 1), server.getsockname())


def test_a_client_that_asks_too_often_waits(front: Front, superlink: SuperLinkStub) -> None:
    now = [100.0]
    front._rate = RateLimit(per_second=2, burst=3, clock=lambda: now[0])
    assert [ask(front, "/v1/fleet/pull-messages")[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    now[0] += 1.0
    assert [ask(front, "/v1/fleet/pull-messages")[0] for _ in range(3)] == [200, 200, 429]
    now[0] += 1000.0  # what was not used is not stored for ever
    assert [ask(front, "/v1/fleet/pull-messages")[0] for _ in range(4)] == [200, 200, 200, 429]
    assert len(superlink.taken) == 8
    assert front._rate.allows("another client")
