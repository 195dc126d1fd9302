"""Test properties of similarity, weights and mixtures for arbitrary signatures."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedmosaic.errors import ConfigError, UpdateError
from fedmosaic.relevance.controls import permuted_weights, random_weights, uniform_weights
from fedmosaic.relevance.weights import (
    mix,
    relevance_weights,
    restrict,
    same_label,
    similarity,
    similarity_std,
)
from fedmosaic.seeding import generator


def draw(n: int, k: int = 7, seed: int = 0) -> Tensor:
    return torch.randn(n, k, generator=generator("weights", n, k, seed))


def assert_rows(weights: Tensor, single: bool = False) -> None:
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)), atol=1e-6)
    assert (weights >= 0).all()
    if not single:
        assert (weights.diagonal() == 0).all()


def test_similarity_by_hand() -> None:
    signatures = torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, -3.0], [0.0, 0.0]])
    c = math.sqrt(0.5)
    expected = torch.tensor([[1, c, 0, 0], [c, 1, -c, 0], [0, -c, 1, 0], [0, 0, 0, 0]])
    assert torch.allclose(similarity(signatures), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_similarity_does_not_depend_on_length(scale: float) -> None:
    signatures = draw(5)
    assert torch.allclose(similarity(signatures * scale), similarity(signatures), atol=1e-6)


def test_similarity_names_what_is_not_finite() -> None:
    signatures = draw(4)
    signatures[2, 0] = torch.nan
    with pytest.raises(UpdateError, match=r"\[2\]"):
        similarity(signatures)


def test_weights_by_hand() -> None:
    s = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, -0.5], [0.0, -0.5, 1.0]])
    e = math.e
    expected = torch.tensor(
        [
            [0, e / (e + 1), 1 / (e + 1)],
            [e**2 / (e**2 + 1), 0, 1 / (e**2 + 1)],
            [e / (e + 1), 1 / (e + 1), 0],
        ]
    )
    assert torch.allclose(relevance_weights(s, tau=0.5), expected)
    with_self = relevance_weights(s, tau=0.5, exclude_self=False)
    assert torch.allclose(with_self, torch.softmax(s / 0.5, dim=1))


@given(
    n=st.integers(1, 9),
    seed=st.integers(0, 50),
    tau=st.floats(0.01, 10),
    top_k=st.none() | st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_rows_sum_to_one_and_exclude_self(n: int, seed: int, tau: float, top_k: int | None) -> None:
    weights = relevance_weights(similarity(draw(n, seed=seed)), tau, top_k)
    assert_rows(weights, single=n == 1)
    if n == 1:
        assert weights.tolist() == [[1.0]]
    if top_k is not None and n > 1:
        assert ((weights > 0).sum(1) <= min(top_k, n - 1)).all()


def test_two_clients_receive_each_others_values_exactly() -> None:
    values = draw(2, 5)
    weights = relevance_weights(similarity(draw(2)))
    assert weights.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert torch.equal(mix(weights, values), values.flip(0))


def test_top_k_keeps_the_most_similar() -> None:
    s = torch.tensor([[1.0, 0.1, 0.9, 0.5], [0.1, 1, 0, 0], [0.9, 0, 1, 0], [0.5, 0, 0, 1]])
    weights = relevance_weights(s, top_k=2)
    assert (weights[0] > 0).tolist() == [False, False, True, True]
    assert (weights[1] > 0).tolist() == [True, False, True, False], "ties: the lower index"
    assert weights[0, 2] / weights[0, 3] == pytest.approx(math.exp(0.8))


def test_missing_signature_receives_uniformly_and_counts_as_average() -> None:
    signatures = draw(4)
    signatures[1] = 0
    weights = relevance_weights(similarity(signatures))
    assert_rows(weights)
    assert torch.allclose(weights[1], torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]))
    s = similarity(signatures)
    average = (s[0, 2] + s[0, 3]) / 2
    assert weights[0, 1] / weights[0, 2] == pytest.approx(
        math.exp((average - s[0, 2]) / 0.5), rel=1e-5
    )
    named = relevance_weights(
        similarity(draw(4)), missing=torch.tensor([False, True, False, False])
    )
    assert torch.allclose(named[1], weights[1])


def test_missing_signature_with_top_k_is_still_uniform() -> None:
    signatures = draw(4)
    signatures[1] = 0
    assert torch.allclose(
        relevance_weights(similarity(signatures), top_k=1)[1],
        torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]),
    )


def test_no_signature_at_all_is_uniform() -> None:
    assert torch.allclose(relevance_weights(similarity(torch.zeros(3, 5))), uniform_weights(3))
    assert relevance_weights(similarity(torch.zeros(1, 5))).tolist() == [[1.0]]


@given(n=st.integers(2, 8), seed=st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_permuting_clients_permutes_results(n: int, seed: int) -> None:
    signatures, values = draw(n, seed=seed), draw(n, 11, seed=seed)
    order = torch.randperm(n, generator=generator("order", seed))
    plain = mix(relevance_weights(similarity(signatures)), values)
    moved = mix(relevance_weights(similarity(signatures[order])), values[order])
    assert torch.allclose(moved, plain[order], atol=1e-5)


def test_equal_values_stay_equal() -> None:
    values = draw(1, 9).expand(6, 9)
    assert torch.allclose(
        mix(relevance_weights(similarity(draw(6))), values), values, rtol=1e-6, atol=1e-7
    )


def test_mix_is_the_weighted_sum_in_the_dtype_of_the_values() -> None:
    weights, values = uniform_weights(3), torch.tensor([[1.0, 4.0], [2.0, 8.0], [6.0, 0.0]])
    assert mix(weights, values).tolist() == [[4.0, 4.0], [3.5, 2.0], [1.5, 6.0]]
    assert mix(weights, values.to(torch.bfloat16)).dtype == torch.bfloat16
    assert torch.equal(mix(weights, values), mix(weights, values)), "deterministic"


def test_restrict() -> None:
    weights = relevance_weights(similarity(draw(5)))
    mask = same_label(["llama", "qwen", "llama", "gemma", "llama"])
    restricted = restrict(weights, mask)
    assert torch.allclose(restricted.sum(1), torch.ones(5))
    assert (restricted[~mask] == 0).all()
    assert restricted[0, 2] / restricted[0, 4] == pytest.approx(
        (weights[0, 2] / weights[0, 4]).item(), rel=1e-5
    )
    assert restricted[1].tolist() == [0, 1, 0, 0, 0] and restricted[3].tolist() == [0, 0, 0, 1, 0]
    values = draw(5, 4)
    assert torch.equal(mix(restricted, values)[1], values[1]), (
        "the only one of its architecture: its own values, exactly"
    )
    pair = restrict(weights, same_label("aabbb"))
    assert torch.equal(mix(pair, values)[0], values[1]), "one peer: that peer's, exactly"
    assert torch.allclose(restrict(weights, torch.ones(5, 5, dtype=torch.bool)), weights)


def test_uniform() -> None:
    assert uniform_weights(1).tolist() == [[1.0]]
    assert torch.allclose(uniform_weights(4), (torch.ones(4, 4) - torch.eye(4)) / 3)


def test_permuted_keeps_the_weights_and_moves_the_peers() -> None:
    weights = relevance_weights(similarity(draw(8)))
    result = permuted_weights(weights, generator("p", 1))
    assert_rows(result)
    assert torch.equal(result.sort(1).values, weights.sort(1).values)
    assert not torch.equal(result, weights)
    assert torch.equal(result, permuted_weights(weights, generator("p", 1)))
    assert not torch.equal(result, permuted_weights(weights, generator("p", 2)))
    assert permuted_weights(uniform_weights(1), generator("p", 1)).tolist() == [[1.0]]
    counts = sum(
        permuted_weights(torch.eye(4).roll(1, 1), generator("p", seed)) for seed in range(900)
    )
    assert counts[~torch.eye(4, dtype=torch.bool)].min() > 240, "every peer is equally likely"


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_random_weights(n: int) -> None:
    weights = random_weights(n, 2, generator("r", n))
    assert_rows(weights, single=n == 1)
    chosen = min(2, max(n - 1, 1))
    assert ((weights == 1 / chosen).sum(1) == chosen).all()
    counts = sum(random_weights(5, 2, generator("r", seed)) for seed in range(400))
    assert counts[~torch.eye(5, dtype=torch.bool)].min() > 70


def test_bad_input_is_refused() -> None:
    for call in (
        lambda: relevance_weights(torch.eye(3), tau=0.0),
        lambda: relevance_weights(torch.eye(3), top_k=0),
        lambda: random_weights(3, 0, generator("r")),
    ):
        with pytest.raises(ConfigError):
            call()


def test_similarity_std_leaves_out_the_diagonal_and_clients_without_signature() -> None:
    s = torch.tensor([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]])
    assert similarity_std(s) == pytest.approx(math.sqrt(0.08 / 3), rel=1e-6)
    unknown = torch.zeros(4, 4)
    unknown[:3, :3] = s
    assert similarity_std(unknown) == similarity_std(s)


@pytest.mark.parametrize(
    "alike", [torch.eye(1), torch.eye(2), torch.zeros(3, 3), torch.full((3, 3), 0.7)]
)
def test_similarity_std_is_one_where_similarities_do_not_differ(alike: Tensor) -> None:
    assert similarity_std(alike) == 1.0


@given(
    n=st.integers(3, 9),
    seed=st.integers(0, 20),
    noise=st.floats(0.01, 1.0),
    shift=st.floats(-0.3, 0.3),
)
@settings(max_examples=50, deadline=None)
def test_weights_at_a_relative_temperature_do_not_depend_on_noise(
    n: int, seed: int, noise: float, shift: float
) -> None:
    s = similarity(draw(n, seed=seed)).double()
    noisy = noise * s + shift
    noisy.fill_diagonal_(1.0)
    assert torch.allclose(
        relevance_weights(s, 0.5 * similarity_std(s)),
        relevance_weights(noisy, 0.5 * similarity_std(noisy)),
        atol=1e-6,
    )
