"""Test the fast evaluation of a client against the plain one, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmosaic.algorithms.message import Message
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.evaluation import Record, batches, likelihood, plain_questions
from fedmosaic.evaluation.shared_check import may_share
from fedmosaic.federation import measure
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.wire import pack
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator

PLAIN = "evaluation.fast=false"


def client_of(runtime: Runtime, name: str, size: float = 0.01) -> LocalClient:
    """Return a client whose adapters and gates are random, as if they were trained."""
    spec = next(client for client in runtime.scenario.clients if client.name == name)
    client = LocalClient(runtime, spec)
    draw = generator(0, "trained", name)
    client._adapters = {
        key: value + size * torch.randn(value.shape, generator=draw)
        for key, value in client.adapted.fresh.items()
    }
    return client


def runtime_of(scenario: str | Path, *overrides: str, algorithm: str = "fedmosaic") -> Runtime:
    loaded = load_scenario(scenario, list(overrides))
    return Runtime(RunSettings(name="fast", algorithm=algorithm, scenario=loaded))


def evaluated(client: LocalClient, items: int | None = None) -> list[Record]:
    """Return the records of an evaluation, without their times."""
    with client.turn():
        found = client._evaluate(Instructions(round=0, items=items), "after")
    assert all(record.seconds > 0 for record in found)
    return [replace(record, seconds=0.0) for record in found]


@pytest.fixture
def log_likelihoods(monkeypatch: pytest.MonkeyPatch) -> list[list[list[float]]]:
    """Collect the log-likelihoods of the options that every evaluation computes."""
    found: list[list[list[float]]] = []
    next_logits, scores = plain_questions._next_logits, likelihood.Questions.scores
    monkeypatch.setattr(plain_questions, "_next_logits", lambda *a: next_logits(*a).log_softmax(-1))

    def collect(self: Any, model: Any) -> list[list[float]]:
        found.append(scores(self, model))
        return found[-1]

    monkeypatch.setattr(likelihood.Questions, "scores", collect)
    return found


@pytest.mark.parametrize("name", ["client-0", "client-1", "client-3"])  # one of each architecture
def test_fast_and_plain_give_the_same_choices(
    name: str, log_likelihoods: list[list[list[float]]]
) -> None:
    fast = runtime_of("miniature/hetero")
    plain = fast.with_settings(
        RunSettings(name="plain", scenario=load_scenario("miniature/hetero", [PLAIN]))
    )
    assert evaluated(client_of(fast, name), 6) == evaluated(client_of(plain, name), 6)
    (together,), apart = log_likelihoods[:1], log_likelihoods[1:]
    one_by_one = [options for task in apart for options in task]
    assert len(together) == len(one_by_one) == 228 and len(apart) == 40
    pairs = [
        (one, other)
        for own, options in zip(together, one_by_one, strict=True)
        for one, other in zip(own, options, strict=True)
    ]
    # Plain values lie as far from those in float64: 1e-5 and a unit in the last digit.
    one, other = torch.tensor(pairs).unbind(1)
    assert torch.allclose(one, other, rtol=1e-6, atol=1e-5)
    assert float((one - other).abs().median()) < 3e-6
    choices = [max(range(len(o)), key=o.__getitem__) for o in together]
    assert choices == [max(range(len(o)), key=o.__getitem__) for o in one_by_one]


@pytest.mark.parametrize("algorithm", ["fedmosaic", "fedavg", "feddpa"])
def test_training_after_an_evaluation_is_the_same_to_the_last_bit(
    tiny: Path, algorithm: str
) -> None:
    updates = []
    for overrides in ([], [PLAIN]):
        small = "relevance.model=miniature/llama-8x96"
        runtime = runtime_of(tiny, small, *overrides, algorithm=algorithm)
        client = client_of(runtime, "c")
        turn = Instructions(round=0, before=True, after=True)
        result = client.work(turn, pack(Message()))
        scores = [replace(record, seconds=0.0) for record in result.records]
        updates.append((result.update, scores))
        result = client.work(Instructions(round=1), pack(Message()))
        updates[-1] = (*updates[-1], result.update)
    assert updates[0][0] is not None
    assert updates[0] == updates[1]


def test_clients_of_one_architecture_share_what_is_made_of_the_items(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime_of(tiny)
    collated = []
    collate = Backbone.collate
    monkeypatch.setattr(
        Backbone, "collate", lambda self, items: collated.append(len(items)) or collate(self, items)
    )
    one, other = client_of(runtime, "a"), client_of(runtime, "d")
    may_share(one.backbone, one.stream.tasks[0].test[0])  # tries the model on texts of its own
    collated.clear()
    first = evaluated(one)
    assert sum(collated) == 24  # four tasks of six questions, in few batches
    assert len(collated) < 4
    collated.clear()
    second = evaluated(other)
    assert collated == []
    assert [record.task for record in first] == [record.task for record in second]
    monkeypatch.setattr(measure, "BATCH_MEMORY", 0)
    runtime = runtime_of(tiny)
    one, other = client_of(runtime, "a"), client_of(runtime, "d")
    assert evaluated(one) == first
    collated.clear()
    assert evaluated(other) == second
    assert sum(collated) == 24


def test_a_model_that_prepares_itself_is_not_merged(tiny: Path) -> None:
    class Prepared(torch.nn.Sequential):
        def prepare(self, batch: Any) -> None: ...

    scenario, layer = runtime_of(tiny).scenario, torch.nn.Linear(2, 2)
    for model, merges in (
        (torch.nn.Sequential(layer), True),
        (Prepared(layer), False),
        (object(), False),
    ):
        with measure.for_inference(scenario, model):
            assert ("forward" in layer.__dict__) is merges
    with measure.for_inference(runtime_of(tiny, PLAIN).scenario, model := torch.nn.Linear(2, 2)):
        assert "forward" not in model.__dict__


def test_batches_are_bounded_by_tokens_and_sequences() -> None:
    lengths = [5, 3, 9, 3, 4, 20]
    assert batches._parts(lengths, None, 12) == [[1, 3, 4], [0], [2], [5]]
    assert batches._parts(lengths, 2, 12) == [[1, 3], [4, 0], [2], [5]]
    assert batches._parts(lengths, 4, None) == [[1, 3, 4, 0], [2, 5]]
