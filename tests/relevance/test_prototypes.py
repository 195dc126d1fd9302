"""Test prototypes of prompts, the choice of useful peers, and the router."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from fedmosaic.relevance.familiarity import Familiarity
from fedmosaic.relevance.prototypes import nearest_owner, permuted, prototypes, useful_owners
from fedmosaic.relevance.routes import Router


def cloud(centre: float, count: int = 30, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return centre + 0.1 * torch.randn(count, 4, generator=draw)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_prototypes_are_the_centres_of_clusters() -> None:
    features = torch.cat([cloud(0.0), cloud(5.0, seed=1), cloud(9.0, seed=2)])
    found = prototypes(features, 3, seeded())
    expected = torch.stack([part.mean(0) for part in features.split(30)])
    torch.testing.assert_close(found[found[:, 0].argsort()], expected)
    assert torch.equal(found, prototypes(features, 3, seeded()))


def test_few_prompts_are_their_own_prototypes() -> None:
    features = cloud(1.0, 3)
    assert torch.equal(prototypes(features, 5, seeded()), features[[0, 1, 2, 0, 1]])
    assert torch.equal(prototypes(features[:0], 2, seeded()), torch.zeros(2, 4))


def test_the_nearest_prototype_counts_not_the_nearest_mean() -> None:
    owned = {"wide": torch.tensor([[0.0], [10.0]]), "narrow": torch.tensor([[4.0], [6.0]])}
    names, least = nearest_owner(
        torch.tensor([[9.0], [5.1]]).double(), {name: rows.double() for name, rows in owned.items()}
    )
    assert names == ["wide", "narrow"]
    torch.testing.assert_close(least, torch.tensor([1.0, 0.9]).double())


def left_uncovered(own: Tensor, offered: dict[str, Tensor], chosen: tuple[str, ...]) -> float:
    every = torch.cat(list(offered.values())).double()
    have = torch.cat([own, *(offered[name] for name in chosen)]).double()
    return float(torch.cdist(every, have).min(1).values.sum())


def test_useful_peers_cover_what_a_client_lacks() -> None:
    own = cloud(0.0, 4)
    offered = {"alike": cloud(0.2, 4, 1), "far": cloud(8.0, 4, 2), "further": cloud(20.0, 4, 3)}
    cost = dict.fromkeys(offered, 10)
    found = useful_owners(own, offered, cost, most=2)
    assert found == ["further", "far"]
    best = min(
        itertools.combinations(offered, 2), key=lambda two: left_uncovered(own, offered, two)
    )
    assert set(found) == set(best)


def test_a_budget_limits_the_bytes_and_prefers_what_is_cheap() -> None:
    own = cloud(0.0, 4)
    offered = {"dear": cloud(8.0, 4, 1), "cheap": cloud(8.0, 4, 2), "other": cloud(-8.0, 4, 3)}
    cost = {"dear": 90, "cheap": 10, "other": 20}
    assert useful_owners(own, offered, cost, budget=30) == ["cheap", "other"]
    assert useful_owners(own, offered, cost, budget=5) == []
    assert set(useful_owners(own, offered, cost)) == set(offered)
    assert set(useful_owners(own[:0], offered, cost)) == set(offered)
    assert useful_owners(own, {}, {}) == []


def test_usefulness_counts_for_each_byte() -> None:
    own, offered = cloud(0.0, 4), {"dear": cloud(9.0, 4, 1), "cheap": cloud(8.0, 4, 2)}
    assert useful_owners(own, offered, {"dear": 9, "cheap": 9}, most=1) == ["dear"]
    assert useful_owners(own, offered, {"dear": 90, "cheap": 9}, most=1) == ["cheap"]


def test_permuted_prototypes_are_nobodys_own() -> None:
    assert permuted(["a", "b", "c"]) == {"a": "b", "b": "c", "c": "a"}


@pytest.mark.parametrize(
    ("place", "expected"), [(0.0, ""), (6.0, "six"), (9.0, "nine"), (40, None)]
)
def test_an_input_goes_home_to_the_nearest_expert_or_to_nobody(
    place: float, expected: str | None
) -> None:
    prompts = cloud(0.0, 40)
    own = Familiarity.of(prompts)
    experts = {"six": cloud(6.0, 4, 1), "nine": cloud(9.0, 4, 2)}
    router = Router.of(own, prototypes(prompts, 4, seeded()), experts, 0.99, 1.0)
    assert router(cloud(place, 5, 3) if place else prompts[:5]) == [expected] * 5
    nobody = Router.of(own, prototypes(prompts, 4, seeded()), {}, 0.99, 1.0)
    assert nobody(cloud(6.0, 2, 1)) == [None, None]


def test_the_displacement_by_noise_is_that_of_noisy_prototypes() -> None:
    prompts = cloud(0.0, 40) * torch.tensor([1.0, 5.0, 0.2, 1.0])
    own = Familiarity.of(prompts)
    router = Router.of(own, prototypes(prompts, 4, seeded()), {}, 0.99, 1.0)
    noise = 0.3 * torch.randn(20_000, 4, generator=seeded())
    far = (own.scale(prompts[:1] + noise) - own.scale(prompts[:1])).square().sum(1).mean().sqrt()
    assert router.displacement(0.3) == pytest.approx(float(far), rel=0.02)


def test_a_client_without_prompts_takes_the_nearest_expert() -> None:
    experts = {"six": cloud(6.0, 4, 1), "nine": cloud(9.0, 4, 2)}
    empty = torch.zeros(0, 4)
    router = Router.of(Familiarity.of(empty), torch.zeros(2, 4), experts, 0.99, 1.0)
    assert router(torch.cat([cloud(6.4, 1), cloud(100.0, 1)])) == ["six", "nine"]
