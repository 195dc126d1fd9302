"""Test views that give each input to one of a client's models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from short_run import numbers, start
from test_fast_evaluation import client_of, runtime_of

import fedmosaic
from fedmosaic.config import Scenario
from fedmosaic.errors import ConfigError, DataError
from fedmosaic.evaluation import Record
from fedmosaic.federation.client_evaluation import ClientEvaluation
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.prompts import prompt_features
from fedmosaic.relevance.familiarity import Familiarity
from tiny_scenario import TINY

ITEMS = 12
VIEWS = "evaluation.views=[routed, mixed, global, base, routed-base]"


def evaluation(views: str, algorithm: str = "fedmosaic") -> ClientEvaluation:
    """Return the evaluation of a client with random adapters, all of whose samples arrived."""
    runtime = runtime_of(
        "miniature/quickstart", views, "relevance.model=miniature/llama-8x96", algorithm=algorithm
    )
    client = client_of(runtime, "client-0", size=0.1)
    client.stream._arrived = client.stream.sample_count
    return ClientEvaluation(client, Instructions(round=0, items=ITEMS), "after")


def by_view(records: list[Record]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record.view, []).append(record.value)
    return found


def test_each_input_is_answered_by_the_model_that_it_is_routed_to() -> None:
    found = evaluation(VIEWS)
    with found.client.turn():
        records = found.records()
        own = Familiarity.of(found.client.context.prompt_features())
    measured = by_view(records)
    whole = {view: [t.score.values for t in scores] for view, scores in found._whole.items()}
    features = prompt_features(found.client.runtime)
    routed, counts = (
        [],
        {record.task: record.routes for record in records if record.view == "routed"},
    )
    for number, (spec, items) in enumerate(found.tests):
        known = own(features(found.client.runtime.test_set(spec, items))).tolist()
        names = ["mixed" if it else "global" for it in known]
        values = [whole[name][number][place] for place, name in enumerate(names)]
        routed.append(sum(values) / ITEMS)
        assert counts[spec.name] == {name: names.count(name) for name in dict.fromkeys(names)}
    assert measured["routed"] == pytest.approx(routed)
    assert measured["routed"] != measured["mixed"]
    used = {name for routes in counts.values() for name in routes}
    assert used == {"mixed", "global"}


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_routed_view_has_the_same_scores_without_the_views_that_it_takes_from(fast: str) -> None:
    found = []
    for views in (VIEWS, "evaluation.views=[routed, routed-base]"):
        asked = evaluation(views)
        settings = asked.client.runtime.scenario.evaluation
        object.__setattr__(settings, "fast", fast == "true")
        with asked.client.turn():
            found.append(by_view(asked.records()))
    assert found[0]["routed"] == found[1]["routed"]
    assert found[0]["routed-base"] == found[1]["routed-base"]


def test_the_base_view_is_the_model_without_adapters() -> None:
    found = evaluation("evaluation.views=[base, mixed]")
    with found.client.turn():
        trained = by_view(found.records())
    client = found.client
    client._adapters = dict(client.adapted.fresh)
    with client.turn():
        fresh = by_view(ClientEvaluation(client, Instructions(0, items=ITEMS), "after").records())
    assert trained["base"] == fresh["base"] == fresh["mixed"] != trained["mixed"]


def test_without_a_received_adapter_only_the_base_model_is_another_route() -> None:
    found = evaluation(VIEWS, algorithm="sft")
    with found.client.turn():
        assert set(by_view(found.records())) == {"mixed", "base", "routed-base"}


def test_routing_changes_no_training_and_is_equal_in_workers(tiny: Path, tmp_path: Path) -> None:
    views = ["evaluation.views=[mixed, routed]"]
    plain = start(tiny, tmp_path / "plain")
    routed = start(tiny, tmp_path / "routed", overrides=views)
    shared = start(tiny, tmp_path / "shared", overrides=views, workers=2)

    def without(folder: Path) -> list[dict[str, Any]]:
        return [line for line in numbers(folder) if line.get("view") != "routed"]

    assert without(plain.folder) == without(routed.folder)
    assert numbers(routed.folder) == numbers(shared.folder)
    also = routed.summary["also"]["routed, after"]
    clients = also["clients"]
    means = [client["self"]["last"] for client in clients.values()]
    assert also["self"]["last"] == pytest.approx(sum(means) / len(means))
    assert clients.keys() == routed.summary["clients"].keys()
    assert all(client["tasks"] and client["others"]["in_group"] for client in clients.values())
    assert also == shared.summary["also"]["routed, after"]
    assert also["others"]["last"] is not None


def test_samples_count_once_they_have_arrived(tiny: Path) -> None:
    runtime = runtime_of(tiny, "relevance.model=miniature/llama-8x96")
    client = client_of(runtime, "a")
    assert client.context.prompt_features().shape == (0, 2 * 96)
    client.stream.begin_round(0)
    client.stream.next_batch()
    arrived = client.stream.arrived()
    assert 0 < len(arrived) < client.stream.sample_count
    features = prompt_features(runtime)(arrived)
    assert torch.equal(client.context.prompt_features(), features)


def test_an_unknown_view_is_refused_with_the_nearest(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation.views: unknown view 'route'.*'routed'"):
        start(tiny, tmp_path / "run", overrides=["evaluation.views=[route]"])


@pytest.mark.parametrize(("algorithm", "view"), [("experts", "mixed"), ("ditto", "routed")])
def test_a_text_without_a_prompt_is_refused_before_anything_trains(
    tmp_path: Path, algorithm: str, view: str
) -> None:
    texts = [{"text": f"Roses number {n} are red."} for n in range(6)]
    (tmp_path / "poems.json").write_text(json.dumps(texts))
    client = {"model": "miniature/llama-8x96", "tasks": [str(tmp_path / "poems.json")]}
    clients = [{"name": name, **client} for name in "ab"]
    content = {
        **TINY,
        "clients": clients,
        "data": {"public": "none"},
        "evaluation": {"every": 1, "views": [view]},
    }
    with pytest.raises(DataError, match=r"client 'a': .*poems.json: item .*without a prompt"):
        fedmosaic.run(
            Scenario.model_validate(content),
            algorithm=algorithm,
            out=tmp_path / "run",
            progress=False,
            trackers=(),
        )
    assert not (tmp_path / "run").exists()
