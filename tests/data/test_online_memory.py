"""Test the online memory: its limit, its probabilities, what remains in it, and its state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.data.memory import OnlineMemory
from fedmosaic.errors import CheckpointError, ConfigError

arrivals = st.lists(st.integers(0, 12), min_size=1, max_size=15)


def run_memory(memory: OnlineMemory, sizes: list[int], batch: int, seed: int) -> list[np.ndarray]:
    """Let groups of consecutively numbered samples arrive, and draw a batch after each."""
    rng, start, batches = np.random.default_rng(seed), 0, []
    for size in sizes:
        memory.add(range(start, start + size), rng)
        start += size
        if len(memory):
            batches.append(memory.draw(batch, rng))
    return batches


@settings(max_examples=60, deadline=None)
@given(arrivals, st.integers(1, 8), st.one_of(st.none(), st.integers(1, 10)), st.integers(0, 99))
def test_invariants(sizes: list[int], batch: int, limit: int | None, seed: int) -> None:
    memory = OnlineMemory(limit)
    rng, start, before = np.random.default_rng(seed), 0, set[int]()
    for size in sizes:
        memory.add(range(start, start + size), rng)
        start += size
        items = memory.items.tolist()
        assert len(memory) == min(start, max(len(before) + size, 0) if limit is None else limit)
        assert items == sorted(set(items)) and set(items) <= before | set(
            range(start - size, start)
        )
        newest = range(max(start - size, start - (limit or start)), start)
        assert set(newest) <= set(items), "samples that have just arrived are all there"
        assert (memory.counts[np.isin(memory.items, newest)] == 0).all()
        if items:
            drawn = memory.draw(batch, rng)
            assert len(drawn) == batch and set(drawn.tolist()) <= set(items)
            times = np.bincount(np.searchsorted(memory.items, drawn), minlength=len(items))
            assert times.max() - times.min() <= 1, "no repeats before every sample was taken"
            assert memory.probabilities().sum() == pytest.approx(1)
        before = set(items)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=20), st.floats(0.01, 10))
def test_probabilities_are_the_softmax_for_any_counts(
    counts: list[float], temperature: float
) -> None:
    memory = OnlineMemory(temperature=temperature)
    memory.add(range(len(counts)), np.random.default_rng(0))
    memory.counts[:] = counts
    p = memory.probabilities()
    assert np.isfinite(p).all() and p.sum() == pytest.approx(1)
    best = int(np.argmin(counts))
    log_ratio = (min(counts) - np.array(counts)) / temperature
    np.testing.assert_allclose(p, p[best] * np.exp(log_ratio), rtol=1e-9)


def test_draws_follow_the_probabilities() -> None:
    memory = OnlineMemory(temperature=0.5)
    memory.add(range(4), np.random.default_rng(0))
    rng, n = np.random.default_rng(1), 20000
    counts = np.array([0.0, 0.3, 0.6, 1.5])
    first, pairs = np.zeros(4), np.zeros(4)
    for _ in range(n):
        memory.counts[:] = counts
        pair = memory.draw(2, rng)
        first[pair[0]] += 1
        pairs[pair] += 1
    memory.counts[:] = counts
    p = memory.probabilities()
    np.testing.assert_allclose(first / n, p, atol=0.015)
    # One after another without replacement: i first, or i after some j.
    second = [sum(p[j] * p[i] / (1 - p[j]) for j in range(4) if j != i) for i in range(4)]
    np.testing.assert_allclose(pairs / n, p + second, atol=0.015)


def test_counts_decay_at_each_draw_and_the_drawn_grow_by_one() -> None:
    memory = OnlineMemory()
    rng = np.random.default_rng(0)
    memory.add(range(5), rng)
    expected = np.zeros(5)
    for _ in range(20):
        drawn = memory.draw(2, rng)
        expected *= 0.99
        expected[drawn] += 1
        np.testing.assert_allclose(memory.counts, expected)


def test_a_batch_larger_than_the_memory_takes_all_before_it_repeats() -> None:
    memory = OnlineMemory()
    rng = np.random.default_rng(0)
    memory.add(range(3), rng)
    drawn = memory.draw(8, rng)
    assert sorted(np.bincount(drawn).tolist()) == [2, 3, 3]
    assert memory.counts.sum() == 8


def test_a_new_sample_is_drawn_before_those_drawn_lately() -> None:
    memory = OnlineMemory()
    rng = np.random.default_rng(0)
    memory.add(range(8), rng)
    memory.draw(8, rng)
    hits = 0
    for new in range(8, 208):
        memory.add([new], rng)
        hits += new in memory.draw(4, rng)
    assert hits > 190


def test_the_past_stays_nearly_as_a_uniform_sample() -> None:
    remaining = np.zeros(4)
    for seed in range(60):
        memory = OnlineMemory(50)
        run_memory(memory, [4] * 200, 4, seed)
        remaining += np.bincount(memory.items // 200, minlength=4)
    share = remaining / remaining.sum()
    np.testing.assert_allclose(share[:3], 0.23, atol=0.03)
    assert share[3] < 0.34, "the newest four of fifty places are always the newest samples'"


def test_every_sample_of_a_slow_stream_is_trained_on_although_the_memory_is_small() -> None:
    batches = run_memory(OnlineMemory(16), [2] * 300, 4, seed=0)
    assert len(set(np.concatenate(batches).tolist())) >= 0.97 * 600


def test_state_continues_identically_and_is_a_copy() -> None:
    memory, other = OnlineMemory(10), OnlineMemory(10)
    run_memory(memory, [3] * 8, 4, seed=0)
    state = memory.state_dict()
    other.load_state_dict(state)
    for array in state.values():
        array[:] = -1  # type: ignore[index]
    for one in (memory, other):
        rng = np.random.default_rng(5)
        one.add([100, 101], rng)
        one.last = one.draw(4, rng)  # type: ignore[attr-defined]
    for key in ("items", "counts", "tags", "last"):
        np.testing.assert_array_equal(getattr(memory, key), getattr(other, key))
    assert memory.items.dtype == np.int64 and memory.counts.dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": None}, "lacks 'counts'"),
        ({"counts": np.zeros(2)}, "damaged"),
        ({"counts": np.array([0, 0, np.nan])}, "damaged"),
        ({"counts": np.array([0, 0, -1.0])}, "damaged"),
        (
            {"items": np.arange(9), "counts": np.zeros(9), "tags": np.zeros(9)},
            "holds 9 samples, but memory_size is 4",
        ),
    ],
)
def test_bad_states(change: dict[str, np.ndarray | None], message: str) -> None:
    memory = OnlineMemory(4)
    memory.add(range(3), np.random.default_rng(0))
    state = {
        key: value for key, value in {**memory.state_dict(), **change}.items() if value is not None
    }
    with pytest.raises(CheckpointError, match=message):
        memory.load_state_dict(state)


def test_bad_arguments() -> None:
    for arguments in ({"size": 0}, {"temperature": 0.0}, {"decay": 0.0}, {"decay": 1.1}):
        with pytest.raises(ConfigError):
            OnlineMemory(**arguments)
    with pytest.raises(ConfigError, match="empty memory"):
        OnlineMemory().draw(1, np.random.default_rng(0))
