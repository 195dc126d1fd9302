"""Test a node's signs of life, and which server it lets itself be taken in by."""

from __future__ import annotations

import json
import math
import threading
import time
from typing import Any

import pytest

pytest.importorskip("flwr")

from fedmosaic.engines.flower import greeting, node_session
from fedmosaic.engines.flower.greeting import Greeting, greet
from fedmosaic.engines.flower.node_session import Node
from fedmosaic.errors import LinkError, SiteError


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
