"""Test a node's signs of life, and which server it lets itself be taken in by."""

from __future__ import annotations

import json
import math
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("flwr")

from flwr.proto.message_pb2 import ObjectTree

from fedmosaic.engines.flower import greeting, node_session
from fedmosaic.engines.flower.fleet import Fleet
from fedmosaic.engines.flower.greeting import Greeting, greet
from fedmosaic.engines.flower.node_session import Node
from fedmosaic.errors import LinkError, SiteError, UpdateError


class FleetStub:
    def __init__(self, known: int) -> None:
        self.known = known  # for how many signs of life the server knows the node
        self.beats = 0

    def beat(self) -> bool:
        self.beats += 1
        return self.beats <= self.known


class ParentStub:
    def __init__(self) -> None:
        self.changed = threading.Event()


def node(**fields: Any) -> Node:
    made = object.__new__(Node)
    made.__dict__.update(fields)
    return made


def test_signs_of_life_go_on_until_the_server_no_longer_knows_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_session, "BEAT_SECONDS", 0.01)
    fleet, parent, ended = FleetStub(known=5), ParentStub(), threading.Event()
    thread = threading.Thread(target=node(parent=parent)._beat, args=(fleet, ended))
    thread.start()
    thread.join(timeout=5)
    assert not thread.is_alive() and ended.is_set() and parent.changed.is_set()
    assert fleet.beats == 6


@pytest.mark.parametrize(
    ("seen", "later", "own", "refused"),
    [
        (None, None, math.inf, False),  # nobody was ever there
        (60.0, 60.0, math.inf, False),  # long ago
        (1.0, 3.5, math.inf, False),  # a process that was killed
        (0.3, 0.2, math.inf, True),  # one that is alive
        (3.0, 0.2, 3.0, False),  # this process itself
        (0.3, 0.2, 30.0, True),  # another one took its place
    ],
)
def test_a_second_process_with_one_key_is_noticed(
    seen: float | None,
    later: float | None,
    own: float,
    refused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_session.time, "sleep", lambda _: None)
    monkeypatch.setattr(node_session, "public_bytes", lambda _: b"")
    monkeypatch.setattr(node_session, "greet", lambda *_: Greeting(later, 0.0, 0))
    made = node(
        greeting=Greeting(seen, 0.0, 0),
        server="host:1",
        context=None,
        key=None,
        ca=None,
        _last_sign=time.monotonic() - own,
    )
    if not refused:
        made._refuse_second_process()
        return
    with pytest.raises(SiteError, match="another process is connected"):
        made._refuse_second_process()


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (200, b"<html>", SiteError, "no fedmosaic server"),
        (200, b"[]", SiteError, "no fedmosaic server"),
        (404, b'{"refused": ""}', SiteError, "no fedmosaic server"),
        (503, b"<html>", LinkError, "status 503"),
        (200, b'{"fedmosaic": 1, "registered": false}', SiteError, "does not know"),
    ],
)
def test_what_answers_is_not_taken_for_a_server(
    status: int,
    body: bytes,
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(greeting, "_ask", lambda *_: (status, body, 0.0))
    with pytest.raises(error, match=message):
        greet("host:1", None, b"")


def test_a_greeting_says_how_far_the_clocks_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"fedmosaic": 1, "registered": True, "seen": 2.0, "time": 86_500.0, "max_bytes": 9}
    monkeypatch.setattr(greeting, "_ask", lambda *_: (200, json.dumps(found).encode(), 100.0))
    assert greet("host:1", None, b"") == Greeting(2.0, 86_400.0, 9)


def fleet_of(pieces: dict[str, bytes], asked: list[str]) -> Fleet:
    def piece(_: Any, name: str) -> bytes:
        asked.append(name)
        return pieces[name]

    made = object.__new__(Fleet)
    made._piece = piece  # type: ignore[method-assign]
    return made


def request_of(names: list[str]) -> Any:
    tree = ObjectTree(object_id="root", children=[ObjectTree(object_id=name) for name in names])
    return SimpleNamespace(id="root", tree=tree)


def test_a_long_request_is_fetched_no_further_than_its_limit() -> None:
    names, asked = [f"piece {k}" for k in range(100)], []
    pieces = dict.fromkeys([*names, "root"], bytes(2**20))
    with pytest.raises(UpdateError, match="over 3145728 bytes"):
        fleet_of(pieces, asked).fetch(request_of(names), 3 * 2**20)
    assert len(asked) < 10


def test_a_request_of_another_form_is_an_error() -> None:
    pieces = {"root": b"nothing of Flower", "a": b""}
    with pytest.raises(UpdateError, match="cannot be read"):
        fleet_of(pieces, []).fetch(request_of(["a"]), 1000)
