"""Test that requests which a node has taken stay until they are answered."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.engines.flower.unanswered import Unanswered


def test_requests_stay_in_their_order(tmp_path: Path) -> None:
    first = Unanswered(tmp_path)
    first.begin("host:1", 2**63)
    first.add("b", b"raw b", None)
    first.add("a", b"raw a", b"content")
    first.add("b", b"raw b", b"")
    os.utime(tmp_path / "a.request", (1, 1))
    second = Unanswered(tmp_path)
    assert (second.node("host:1"), second.node("host:2")) == (2**63, 0)
    assert second.all() == [(b"raw a", b"content"), (b"raw b", b"")]
    second.remove("a")
    second.remove("a")
    assert second.all() == [(b"raw b", b"")]


def test_requests_of_an_earlier_node_are_void(tmp_path: Path) -> None:
    unanswered = Unanswered(tmp_path)
    unanswered.add("a", b"raw", b"content")
    unanswered.begin("host:1", 7)
    assert not unanswered.all() and unanswered.node("host:1") == 7


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-3], lambda data: data[:-3] + b"\0\0\0", lambda data: bytes(len(data))],
)
def test_a_damaged_request_is_dropped(tmp_path: Path, damage: Any) -> None:
    unanswered = Unanswered(tmp_path)
    unanswered.add("a", b"raw", b"content")
    path = tmp_path / "a.request"
    path.write_bytes(damage(path.read_bytes()))
    assert not unanswered.all() and not path.exists()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unanswered = Unanswered(tmp_path)
    unanswered.add("a", b"raw", b"content")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fedmosaic.engines.flower.unanswered.write_frame", full)
    with pytest.raises(OSError, match="No space"):
        unanswered.add("a", b"raw", b"other")
    assert unanswered.all() == [(b"raw", b"content")]
    assert [path.name for path in tmp_path.iterdir()] == ["a.request"]
