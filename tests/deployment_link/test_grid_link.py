"""Test requests over Flower's grid: slow answers, errors, time limits, content that is not ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedmosaic.engines.flower.grid_link import GridLink
from fedmosaic.engines.flower.records import from_record, to_record
from fedmosaic.errors import LinkError, UpdateError


class GridStub:
    """Keep messages, and the replies that a test sets.

    Attributes:
        replies: what comes for a request's payload; a function may wait or fail.
        asked: how often was asked for an answer.
    """

    def __init__(self) -> None:
        self.sent: dict[str, Message] = {}
        self.replies: dict[bytes, Any] = {}
        self.asked = 0

    def get_node_ids(self) -> Iterable[int]:
        return [5, 6]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        (message,) = messages
        if message.metadata.dst_node_id == 7:
            return [""]
        name = f"id{len(self.sent)}"
        message.metadata.__dict__["_message_id"] = name
        self.sent[name] = message
        return [name]

    def pull_messages(self, names: Iterable[str]) -> list[Message]:
        (name,) = names
        self.asked += 1
        reply = self.replies.get(from_record(self.sent[name].content))
        found = reply() if callable(reply) else reply
        return [] if found is None else [Message(found, reply_to=self.sent[name])]


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> GridStub:
    for name in ("run_id", "node_id", "task_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)
    return GridStub()


@pytest.fixture(params=[False, True], ids=["one thread", "several"])
def link(grid: GridStub, request: pytest.FixtureRequest) -> Iterator[GridLink]:
    made = GridLink(grid, concurrent=request.param)  # type: ignore[arg-type]
    yield made
    made.close()


def test_answers_and_errors_come_for_their_requests(grid: GridStub, link: GridLink) -> None:
    assert link.nodes() == {"5", "6"}
    grid.replies = {b"a": to_record(b"answer"), b"b": Error(1, "it failed")}
    a, b = link.send("5", b"a", 10), link.send("6", b"b", 10)
    found = {one.request: one for one in [*link.receive(1), *link.receive(0.5)]}
    assert (found[a].node, found[a].payload, found[a].error) == ("5", b"answer", "")
    assert (found[b].node, found[b].payload, found[b].error) == ("6", b"", "it failed")
    assert link.receive(0.1) == []


def test_a_node_that_is_gone_cannot_be_asked(link: GridLink) -> None:
    with pytest.raises(LinkError, match="node 7"):
        link.send("7", b"a", 10)


def test_a_request_that_flower_has_lost_is_an_error(grid: GridStub, link: GridLink) -> None:
    def fail() -> None:
        raise KeyError("id0")

    grid.replies = {b"a": fail}
    link.send("5", b"a", 10)
    (found,) = link.receive(2)
    assert "KeyError" in found.error


def test_a_request_ends_with_its_time(grid: GridStub, link: GridLink) -> None:
    link.send("5", b"a", 0.3)
    (found,) = link.receive(5)
    assert found.error == "no answer within 0.3 s"
    grid.replies = {b"a": to_record(b"late")}
    assert link.receive(0.2) == []


def test_content_of_another_kind_is_an_error(grid: GridStub, link: GridLink) -> None:
    grid.replies = {b"a": RecordDict({"fedmosaic": ConfigRecord({"x": 1})})}
    link.send("5", b"a", 10)
    (found,) = link.receive(2)
    assert "something other than one block of bytes" in found.error


def test_a_long_wait_asks_less_often(grid: GridStub, link: GridLink) -> None:
    link.send("5", b"a", 10)
    link.receive(1.5)
    assert 5 <= grid.asked <= 25


def test_an_answer_that_arrives_slowly_holds_up_no_other(grid: GridStub) -> None:
    link, arrived = GridLink(grid, concurrent=True), threading.Event()  # type: ignore[arg-type]

    def slowly() -> RecordDict:
        arrived.wait(10)
        return to_record(b"slow")

    grid.replies = {b"a": slowly, b"b": to_record(b"quick")}
    started = time.monotonic()
    link.send("5", b"a", 10)
    link.receive(0.2)
    link.send("6", b"b", 10)
    assert [one.payload for one in link.receive(5)] == [b"quick"]
    assert time.monotonic() - started < 5
    arrived.set()
    assert [one.payload for one in link.receive(5)] == [b"slow"]
    link.close()


@pytest.mark.parametrize("size", [0, 1, 12_000_000])
def test_bytes_survive_a_record(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    assert from_record(to_record(payload[:size])) == payload[:size]
    with pytest.raises(UpdateError):
        from_record(RecordDict())
