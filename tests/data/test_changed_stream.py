"""Test that a stream goes on with changed data: numbers in memory, arrivals, and what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from data_factory import text_task

from fedmosaic.data.stream import ClientStream
from fedmosaic.errors import CheckpointError

BEFORE, NOW = (6, 6), (7, 8)


def build(counts: tuple[int, int], **options: Any) -> ClientStream:
    tasks = [text_task(name, count) for name, count in zip("ab", counts, strict=True)]
    defaults = {"rounds": 6, "steps_per_round": 1, "batch_size": 1, "seed_parts": (0, "client-1")}
    return ClientStream(tasks, **{**defaults, **options})


def go(stream: ClientStream, rounds: range) -> list[tuple[int, int]]:
    drawn = []
    for number in rounds:
        stream.begin_round(number)
        drawn += stream.next_batch()
    return drawn


def numbered(gone: int | None) -> Any:
    """Return today's numbers: each task is reversed after a new item (two in the second)."""
    numbers = [*range(6, 0, -1), *range(14, 8, -1)]
    return np.array([-1 if k == gone else number for k, number in enumerate(numbers)])


@pytest.mark.parametrize("mode", ["static", "dynamic"])
@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("rounds", [1, 3, 5])
def test_each_item_of_today_arrives_one_time(mode: Any, size: int | None, rounds: int) -> None:
    old = build(BEFORE, mode=mode, memory_size=size)
    go(old, range(rounds))
    held = old.memory.items.copy()
    numbers, new = numbered(int(held[0])), build(NOW, mode=mode, memory_size=size)
    new.load_state_dict(new.carry_over(old.state_dict(), numbers, BEFORE))
    assert new.memory.items.tolist() == numbers[held[1:]].tolist()
    assert new.memory.counts.tolist() == old.memory.counts[1:].tolist()
    seen = set(new.memory.items.tolist())
    for number in range(rounds, 6):
        arrived, order = new._arrived, new._order
        go(new, range(number, number + 1))
        arrivals = order[arrived : new._arrived].tolist()
        assert not seen & set(arrivals)
        seen |= set(arrivals)
    assert new._arrived == new.sample_count
    before = numbers[old._order[: old._arrived]]
    assert seen | set(before[before >= 0].tolist()) == set(range(15))
    if size is None:
        assert sorted(new.memory.items.tolist()) == sorted(seen)


def test_a_stream_that_is_resumed_after_the_change_draws_the_same() -> None:
    old = build(BEFORE)
    go(old, range(2))
    first = build(NOW)
    first.load_state_dict(first.carry_over(old.state_dict(), numbered(None), BEFORE))
    go(first, range(2, 4))
    second = build(NOW)
    second.load_state_dict(first.state_dict())
    assert go(first, range(4, 6)) == go(second, range(4, 6))
    assert first.state_dict()["order"].tolist() == second.state_dict()["order"].tolist()  # type: ignore[union-attr]
    assert "order" not in old.state_dict()


def test_the_data_may_change_a_second_time() -> None:
    old, new, last = build(BEFORE), build(NOW), build(BEFORE)
    go(old, range(2))
    held = old.memory.items.tolist()
    new.load_state_dict(new.carry_over(old.state_dict(), numbered(None), BEFORE))
    back = np.full(15, -1)
    back[numbered(None)] = np.arange(12)
    last.load_state_dict(last.carry_over(new.state_dict(), back, NOW))
    assert last.memory.items.tolist() == held
    go(last, range(2, 6))
    assert sorted(last.memory.items.tolist()) == list(range(12))


def test_a_memory_of_which_nothing_is_left_begins_anew() -> None:
    old, new = build(BEFORE, memory_size=2), build(NOW, memory_size=2)
    go(old, range(4))
    numbers = numbered(None)
    numbers[old.memory.items] = -1
    new.load_state_dict(new.carry_over(old.state_dict(), numbers, BEFORE))
    assert not len(new.memory) and len(go(new, range(4, 6))) == 2


def test_a_state_of_other_data_is_refused() -> None:
    stream = build(BEFORE)
    with pytest.raises(CheckpointError, match="12 training samples, but the record of the data 3"):
        stream.carry_over(stream.state_dict(), np.arange(3), (3, 0))
    with pytest.raises(CheckpointError, match="lacks samples"):
        stream.load_state_dict({**stream.state_dict(), "order": np.zeros(12, np.int64)})
