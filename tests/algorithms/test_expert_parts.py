"""Test the parts of a client's prompts, each of which is an expert for other architectures."""

from __future__ import annotations

import torch

from fedmosaic.algorithms.common import moved
from fedmosaic.algorithms.common.expert_bank import exchanged, means_of_clients, nearest_experts
from fedmosaic.alignment.transfer import from_margins
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.federation.run import resolve
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.relevance.familiarity import Standardised, distances
from fedmosaic.relevance.prototypes import parts_of, prototypes
from tiny_scenario import TINY


def test_each_part_learns_mostly_from_its_own_examples() -> None:
    scenario = Scenario.model_validate(
        {**TINY, "algorithms": {"fedmosaic-experts": {"across": "moved"}}}
    )
    settings = RunSettings(name="parts", algorithm="fedmosaic-experts", scenario=scenario)
    client = InProcess(Runtime(resolve(Runtime(settings))), {"a"}).clients["a"]
    client.stream._arrived = client.stream.sample_count
    with client.turn(trains=False) as context:
        scaled = Standardised.of(context.prompt_features())
        sent = prototypes(context.prompt_features(), 6, torch.Generator().manual_seed(0))
        whole, _ = moved.learn_moved(context, 128, 1, sent)
        pairs, part = moved.learn_moved(context, 128, 3, sent)
        nearest = distances(scaled(context.prompt_features()), scaled(sent)).argmin(1)
        rows, frame = context.state[moved.ROWS].float(), moved.frame_of(context)
    assert torch.equal(part.long(), parts_of(scaled(sent), 3))
    assert len(rows) == len(nearest) == client.stream.sample_count
    weights = torch.where(part[nearest] == 2, 1.0, moved.OTHER_PARTS)
    assert weights.min() < weights.max()
    for key, value in from_margins(frame, rows, weights=weights).items():
        torch.testing.assert_close(pairs[f"2/{key}"], value)
    for key, value in from_margins(frame, rows).items():
        torch.testing.assert_close(whole[f"0/{key}"], value)
        assert not torch.equal(pairs[f"2/{key}"], value)


def test_parts_are_clusters_of_prototypes_in_their_order() -> None:
    near = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)) * 0.01
    rows = torch.cat([near + 1, near - 1, near + 1, near - 3])
    assert parts_of(rows, 3).tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [2] * 3
    assert parts_of(rows, 1).tolist() == [0] * 12
    assert parts_of(torch.zeros(4, 8), 3).tolist() == [0] * 4
    assert parts_of(rows[:2], 4).tolist() == [0, 1]


def test_of_the_nearest_client_the_nearest_expert_answers() -> None:
    found = {
        "a/1": torch.tensor([[0.0]]),
        "a/2": torch.tensor([[10.0]]),
        "b": torch.tensor([[8.0]]),
    }
    assert {k: v.tolist() for k, v in means_of_clients(found).items()} == {"a": [[5]], "b": [[8]]}
    inputs = torch.tensor([[1.0], [9.0], [9.0], [9.0], [9.0]])
    chosen = nearest_experts(inputs, found, ["a", "a", "b", "", None])
    assert chosen == ["a/1", "a/2", "b", "", None]


def test_exchanged_prototypes_are_those_of_another_client() -> None:
    rows = {name: torch.full((4, 2), float(k)) for k, name in enumerate(["a/1", "a/2", "b", "c/1"])}
    found = exchanged(rows)
    assert list(found) == list(rows)
    assert found["a/1"].unique().tolist() == found["a/2"].unique().tolist() == [2.0]
    assert len(found["a/1"]) + len(found["a/2"]) == 4
    assert found["b"].unique().tolist() == [3.0]
    assert found["c/1"].unique().tolist() == [0.0, 1.0] and len(found["c/1"]) == 8
