"""Test divisions of items: nothing is lost, seeds decide, skew follows α, shares are stratified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.data.partition import (
    Parts,
    dirichlet_parts,
    iid_parts,
    matching_parts,
    stratified_parts,
    value_parts,
)

LABELS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=60)
SEEDS = st.integers(0, 99)


def is_division(parts: Parts, count: int) -> bool:
    """Whether every item is in exactly one part, and parts are in ascending sequence."""
    assert all(part == sorted(part) for part in parts)
    return sorted(index for part in parts for index in part) == list(range(count))


def skew(parts: Parts, labels: Sequence[str]) -> float:
    """Mean total-variation distance between a client's shares of labels and those of all items."""
    names = sorted(set(labels))

    def shares(part: Sequence[int]) -> np.ndarray:
        counts = Counter(labels[index] for index in part)
        return np.array([counts[name] / len(part) for name in names])

    whole = shares(range(len(labels)))
    return float(np.mean([np.abs(shares(part) - whole).sum() / 2 for part in parts]))


@given(LABELS, st.integers(1, 7), st.sampled_from([1e-6, 0.1, 1.0, 1e6]), SEEDS)
def test_items_are_divided_without_loss(
    labels: list[str], clients: int, alpha: float, seed: int
) -> None:
    for parts in (
        iid_parts(len(labels), clients, seed),
        dirichlet_parts(labels, clients, alpha, seed),
    ):
        assert is_division(parts, len(labels))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    number = min(clients, len(set(labels)))
    parts, owned = value_parts(labels, number)
    assert is_division(parts, len(labels)) and all(parts)
    assert [{labels[index] for index in part} for part in parts] == [set(group) for group in owned]


@given(LABELS, LABELS, st.integers(1, 5), SEEDS)
def test_other_items_are_divided_in_the_same_proportions(
    labels: list[str], others: list[str], clients: int, seed: int
) -> None:
    parts = dirichlet_parts(labels, clients, 0.3, seed)
    found = matching_parts(parts, labels, others, seed)
    assert is_division(found, len(others))
    for label in set(labels) & set(others):
        have = [sum(labels[index] == label for index in part) for part in parts]
        got = [sum(others[index] == label for index in part) for part in found]
        exact = np.array(have) / sum(have) * others.count(label)
        assert (np.abs(np.array(got) - exact) < 1).all()


@given(LABELS.filter(lambda labels: len(labels) > 1), st.floats(0.01, 0.99), SEEDS)
def test_a_share_has_the_labels_of_its_part(labels: list[str], share: float, seed: int) -> None:
    part = list(range(len(labels)))
    rest, out = stratified_parts(part, labels, share, seed, "a")
    assert sorted([*rest, *out]) == part and rest and out
    size = min(max(1, round(share * len(part))), len(part) - 1)
    assert len(out) == size
    for label in set(labels):
        exact = labels.count(label) / len(labels) * size
        assert abs(sum(labels[index] == label for index in out) - exact) < 1


def test_equal_seeds_give_equal_divisions() -> None:
    labels = list("abc" * 20)
    for divide in (
        lambda seed: iid_parts(60, 4, seed),
        lambda seed: dirichlet_parts(labels, 4, 0.5, seed),
        lambda seed: matching_parts([[0, 1], [2, 3]], labels, labels, seed),
        lambda seed: stratified_parts(range(60), labels, 0.3, seed, "a"),
    ):
        assert divide(3) == divide(3) != divide(4)
    assert stratified_parts(range(60), None, 0.3, 0, "a") != stratified_parts(
        range(60), None, 0.3, 0, "b"
    )


def test_skew_falls_as_alpha_grows() -> None:
    labels = [label for label in "abcdefgh" for _ in range(50)]
    means = [
        np.mean([skew(dirichlet_parts(labels, 8, alpha, seed), labels) for seed in range(5)])
        for alpha in (0.01, 0.5, 2, 10, 1e6)
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.75
    assert means[-1] == pytest.approx(
        np.mean([skew(iid_parts(400, 8, seed), labels) for seed in range(5)]), abs=0.03
    )


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_skew_is_that_of_the_distribution(alpha: float) -> None:
    labels = [label for label in "abcdefghij" for _ in range(60)]
    drawn = np.random.default_rng(0).dirichlet(np.full(10, alpha / 10), size=4000)
    expected = float(np.abs(drawn - 0.1).sum(axis=1).mean() / 2)
    found = np.mean([skew(dirichlet_parts(labels, 10, alpha, seed), labels) for seed in range(8)])
    assert found == pytest.approx(expected, abs=0.1)


def test_values_are_grouped_into_even_clients() -> None:
    values = ["a"] * 6 + ["b"] * 4 + ["c"] * 3 + ["d"]
    parts, owned = value_parts(values, 2)
    assert owned == [["a", "d"], ["b", "c"]] and [len(part) for part in parts] == [7, 7]
