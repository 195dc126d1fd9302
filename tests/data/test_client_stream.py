"""Test a client's stream: arrivals, drawn batches, and that a resumed stream draws the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from data_factory import text_task
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.data.stream import ClientStream
from fedmosaic.errors import CheckpointError, ConfigError, DataError

TASKS = [text_task("a", 30), text_task("b", 50), text_task("c", 20)]


def build(**options: Any) -> ClientStream:
    defaults = {"rounds": 6, "steps_per_round": 10, "batch_size": 4, "seed_parts": (0, "client-1")}
    return ClientStream(TASKS, **{**defaults, **options})


def run(stream: ClientStream, rounds: range = range(6)) -> list[list[list[tuple[int, int]]]]:
    drawn = []
    for number in rounds:
        stream.begin_round(number)
        drawn.append([stream.next_batch() for _ in range(stream.steps_per_round)])
    return drawn


def test_batches_name_examples() -> None:
    stream = build()
    stream.begin_round(0)
    batch = stream.next_batch()
    assert len(batch) == 4 and all(0 <= index < len(TASKS[task].train) for task, index in batch)
    task, index = batch[0]
    assert stream.examples(batch)[0] is TASKS[task].train[index]


def test_a_static_stream_mixes_the_tasks_and_passes_once() -> None:
    stream = build()
    drawn = run(stream)
    assert {task for step in drawn[0] for task, _ in step} == {0, 1, 2}
    assert len(stream.memory) == 100 and stream.memory.items.tolist() != list(range(100))
    assert sorted(stream.memory.items) == list(range(100))
    pairs = {pair for number in drawn for step in number for pair in step}
    assert len(pairs) >= 97
    assert pairs <= {(task, index) for task in range(3) for index in range(len(TASKS[task].train))}


@pytest.mark.parametrize("rounds", [6, 7])
def test_a_dynamic_stream_brings_one_task_after_another(rounds: int) -> None:
    stream = build(mode="dynamic", rounds=rounds)
    steps = [step for number in run(stream, range(rounds)) for step in number]
    share = len(steps) / 3
    for task in range(3):
        first = next(number for number, step in enumerate(steps) if task in {t for t, _ in step})
        assert task * share - 1 <= first <= task * share + 2
    assert not any(task > 0 for step in steps[: int(share)] for task, _ in step)
    last = Counter(task for step in steps[-int(share) :] for task, _ in step)
    assert last[2] > last[0] and last[2] > 0 and last[0] > 0, "earlier tasks stay in memory"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.sampled_from(["static", "dynamic"]))
def test_arrivals_are_even_and_complete(rounds: int, steps: int, mode: Any) -> None:
    if mode == "dynamic" and rounds * steps < 3:
        return
    counts = build(mode=mode, rounds=rounds, steps_per_round=steps)._arrived_before
    assert len(counts) == rounds * steps and counts[0] >= 1 and counts[-1] == 100
    new = np.diff(counts, prepend=0)
    assert (new >= 0).all()
    if mode == "static":
        assert new.max() - new.min() <= 1
    else:
        total = rounds * steps
        for phase, end in enumerate((30, 80, 100)):
            assert counts[(phase + 1) * total // 3 - 1] == end


def test_more_steps_than_samples_start_with_one() -> None:
    counts = build(rounds=20, steps_per_round=10)._arrived_before
    assert counts[:5].tolist() == [1, 1, 2, 2, 3]


def test_all_at_once() -> None:
    stream = build(mode="dynamic", arrive="at_once")
    stream.begin_round(0)
    stream.next_batch()
    assert sorted(stream.memory.items) == list(range(30))
    stream.begin_round(2)
    stream.next_batch()
    assert sorted(stream.memory.items) == list(range(80))


def test_samples_of_missed_rounds_arrive_later() -> None:
    full, partial = build(), build()
    run(full)
    run(partial, range(1))
    run(partial, range(5, 6))
    assert sorted(full.memory.items) == sorted(partial.memory.items)


def test_the_memory_limit_holds_throughout() -> None:
    stream = build(mode="dynamic", memory_size=12)
    for number in range(6):
        stream.begin_round(number)
        for _ in range(10):
            stream.next_batch()
            assert len(stream.memory) <= 12
    assert len(stream.memory) == 12


@pytest.mark.parametrize("mode", ["static", "dynamic"])
@pytest.mark.parametrize("memory_size", [None, 15])
def test_resuming_at_any_round_draws_what_an_uninterrupted_run_draws(
    mode: Any, memory_size: int | None
) -> None:
    whole = build(mode=mode, memory_size=memory_size)
    expected = run(whole)
    for stop in range(1, 6):
        first = build(mode=mode, memory_size=memory_size)
        run(first, range(stop))
        resumed = build(mode=mode, memory_size=memory_size)
        resumed.load_state_dict(first.state_dict())
        assert run(resumed, range(stop, 6)) == expected[stop:]
        for key, value in whole.state_dict().items():
            np.testing.assert_array_equal(value, resumed.state_dict()[key])


def test_resuming_within_a_round() -> None:
    whole, first, resumed = build(), build(), build()
    for stream in (whole, first):
        stream.begin_round(0)
        for _ in range(4):
            stream.next_batch()
    resumed.load_state_dict(first.state_dict())
    assert [resumed.next_batch() for _ in range(6)] == [whole.next_batch() for _ in range(6)]


def test_state_is_arrays_and_plain_integers() -> None:
    stream = build()
    run(stream, range(2))
    state = stream.state_dict()
    assert {key: getattr(value, "dtype", type(value).__name__) for key, value in state.items()} == {
        "items": "int64", "counts": "float64", "tags": "float64",
        "samples": "int", "arrived": "int", "round": "int", "step": "int",
    }  # fmt: skip


def test_clients_seeds_and_rounds_draw_differently() -> None:
    runs = [
        run(build(seed_parts=parts))
        for parts in ((0, "client-1"), (0, "client-2"), (1, "client-1"))
    ]
    assert runs[0] != runs[1] and runs[0] != runs[2]
    assert runs[0] == run(build())


def test_each_round_draws_anew_from_the_same_memory() -> None:
    stream = build(arrive="at_once")
    run(stream, range(1))
    batches = []
    for number in (1, 2):
        stream.begin_round(number)
        for _ in range(2):
            stream.memory.counts[:] = 0
            batches.append(stream.next_batch())
    assert len({tuple(batch) for batch in batches}) == 4


def test_a_longer_run_than_planned_goes_on() -> None:
    stream = build()
    run(stream)
    assert len(run(stream, range(6, 8))[1]) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 99}, "has 99 training samples, this one 100;"),
        ({"arrived": 101}, "damaged"),
        ({"items": np.array([100])}, "damaged"),
        ({"arrived": None}, "lacks 'arrived'"),
    ],
)
def test_states_of_other_data_are_refused(change: dict[str, Any], message: str) -> None:
    state = {
        key: value for key, value in {**build().state_dict(), **change}.items() if value is not None
    }
    with pytest.raises(CheckpointError, match=message):
        build().load_state_dict(state)


def test_bad_arguments() -> None:
    for options in ({"rounds": 0}, {"steps_per_round": 0}, {"batch_size": 0}, {"memory_size": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} is 0"):
            build(**options)
    with pytest.raises(ConfigError, match=r"stream is 'dynamc'\. Did you mean 'dynamic'"):
        build(mode="dynamc")
    with pytest.raises(ConfigError, match="arrive is 'often'"):
        build(arrive="often")
    with pytest.raises(ConfigError, match="fewer steps than the 3 tasks"):
        build(mode="dynamic", rounds=1, steps_per_round=2)
    with pytest.raises(DataError, match="at least one task"):
        ClientStream([], rounds=1, steps_per_round=1, batch_size=1)
    with pytest.raises(DataError, match="task 'a' has no train examples"):
        ClientStream([replace(TASKS[0], train=[])], rounds=1, steps_per_round=1, batch_size=1)


def test_steps_out_of_order() -> None:
    stream = build()
    with pytest.raises(ConfigError, match="begin_round"):
        stream.next_batch()
    run(stream, range(1))
    with pytest.raises(ConfigError, match="round 0 has only 10 steps"):
        stream.next_batch()
