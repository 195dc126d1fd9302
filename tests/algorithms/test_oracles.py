"""Check the oracles, and that no other algorithm sees other clients' data or tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from staged_clients import MODELS, stage, start, state_of
from stub_federation import federation, updates_of

from fedmosaic.adapters import read_state
from fedmosaic.algorithms import (
    Message,
    algorithm_class,
    algorithm_names,
    make_algorithm,
    pooled,
    scenario_for,
)
from fedmosaic.algorithms.base import Member
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.relevance import overlap_weights

POOLED = ["pooled", "pooled-group"]
ORACLES = (*POOLED, "fedmosaic-oracle")


# --- what an algorithm may see --------------------------------------------------------------------
@pytest.mark.parametrize("name", algorithm_names())
def test_only_oracles_see_the_clients_tasks_and_groups(name: str) -> None:
    scenario = load_scenario("miniature/hetero")
    algorithm = make_algorithm(name, scenario, 0)
    assert type(algorithm).oracle == (name in ORACLES)
    whole = scenario_for(name, scenario)
    if name in ORACLES:
        assert algorithm.scenario == whole
        return
    assert len(algorithm.scenario.clients) == len(whole.clients) > 1
    for seen, client in zip(algorithm.scenario.clients, whole.clients, strict=True):
        assert client.tasks and (seen.name, seen.model, seen.r) == (
            client.name,
            client.model,
            client.r,
        )
        assert not seen.tasks and not seen.group
    assert not algorithm.scenario.unseen


def test_only_the_oracle_may_weigh_by_task_families() -> None:
    scenario = load_scenario("miniature/hetero", ["relevance.kind=oracle"])
    with pytest.raises(ConfigError, match=r"relevance\.kind: .*fedmosaic-oracle"):
        make_algorithm("fedmosaic", scenario, 0)
    assert make_algorithm("fedmosaic-oracle", scenario, 0).scenario.relevance.kind == "oracle"


def test_only_pooled_algorithms_are_outside_budgets() -> None:
    assert [name for name in algorithm_names() if not algorithm_class(name).budgeted] == POOLED


# --- weights by the true overlap ------------------------------------------------------------------
def test_oracle_weights_are_the_overlap_of_families() -> None:
    families = [["x", "x", "y"], ["x", "x", "z"], ["y", "x"], ["u"], ["v"]]
    groups = ["one", "one", "two", "two", ""]
    weights = overlap_weights(families, groups)
    assert torch.allclose(weights.sum(1), torch.ones(5)) and not weights.diagonal().any()
    # Two x in common with c1; x and y with c2.
    assert torch.allclose(weights[0], torch.tensor([0, 0.5, 0.5, 0, 0]))
    assert torch.allclose(weights[1], torch.tensor([2 / 3, 0, 1 / 3, 0, 0]))
    # No family in common: its group. No group either: all others.
    assert torch.equal(weights[3], torch.tensor([0, 0, 1.0, 0, 0]))
    assert torch.equal(weights[4], torch.tensor([0.25, 0.25, 0.25, 0.25, 0]))
    assert torch.equal(overlap_weights([["x"]], [""]), torch.ones(1, 1))
    order = [3, 0, 4, 2, 1]
    permuted = overlap_weights([families[i] for i in order], [groups[i] for i in order])
    assert torch.equal(permuted, weights[order][:, order])


def test_the_oracle_weighs_by_families_not_by_signatures() -> None:
    algorithm, server = federation("fedmosaic-oracle", ["small"] * 4)
    families = {"c0": ("x",), "c1": ("y",), "c2": ("x",), "c3": ("x",)}
    server.members = [
        Member(**{**m.model_dump(), "families": families[m.name]}) for m in server.members
    ]
    updates = updates_of(["small"] * 4)
    # c0 has not sent anything yet.
    algorithm.aggregate(server, {name: updates[name] for name in ("c1", "c2", "c3")})
    assert server.report["relevance"]["weights"] == [[0, 0.5, 0.5], [0, 0, 1], [0, 1, 0]]
    algorithm.aggregate(server, updates)
    expected = [[0, 0, 0.5, 0.5], [1 / 3, 0, 1 / 3, 1 / 3], [0.5, 0, 0, 0.5], [0.5, 0, 0.5, 0]]
    weights = torch.tensor(server.report["relevance"]["weights"])
    assert torch.allclose(weights, torch.tensor(expected))


def test_in_a_run_the_oracle_knows_the_families(tiny: Path, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run", "fedmosaic-oracle", rounds=1)
    folder, settings = RunFolder.open(run.folder)
    assert settings.algorithm == run.summary["algorithm"] == "fedmosaic-oracle"
    assert settings.scenario.relevance.kind == "oracle"
    line = next(line for line in folder.lines() if line["kind"] == "round")
    # The tiny scenario's families: stages, stages, idiom, idiom.
    expected = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert line["relevance"]["weights"] == expected


# --- training on all data -------------------------------------------------------------------------
@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, list[str]]]:
    """Return the architecture, the round and the examples of each training, as they come."""
    seen: list[tuple[str, int, list[str]]] = []
    real = pooled.fit

    def fit(
        model: Any, backbone: Any, optimiser: Any, draw: Any, steps: int, **options: Any
    ) -> Any:
        ids: list[str] = []
        seen.append((backbone.name, options["first_step"] // steps, ids))

        def recorded() -> Any:
            examples = draw()
            ids.extend(example.id for example in examples)
            return examples

        return real(model, backbone, optimiser, recorded, steps, **options)

    monkeypatch.setattr(pooled, "fit", fit)
    return seen


def drawn_until(tiny: Path, last: int, names: str) -> list[str]:
    """Return the examples that clients draw in a round of local training."""
    drawn = []
    for name, client in stage(tiny, "sft", "rounds=2").items():
        for number in range(last + 1):
            client.stream.begin_round(number)
            batches = [client.stream.next_batch() for _ in range(3)]
        if name in names:
            drawn += [example.id for batch in batches for example in client.stream.examples(batch)]
    return drawn


def test_pooled_trains_one_adapter_on_what_all_clients_would_draw(
    tiny: Path, tmp_path: Path, trained: list[tuple[str, int, list[str]]]
) -> None:
    run = start(tiny, tmp_path / "run", "pooled")
    # Once an architecture and round, though two clients share the first architecture.
    rounds = sorted((name, number) for name, number, _ in trained)
    assert rounds == sorted((model, number) for model in MODELS for number in (0, 1))
    for last in (0, 1):
        drawn = drawn_until(tiny, last, "abcd")
        ids = [found for _, number, found in trained if number == last]
        assert all(found == ids[0] for found in ids)
        assert sorted(ids[0]) == sorted(drawn) and ids[0] != drawn
    a, d = state_of(run, "a", 2), state_of(run, "d", 2)
    adapters = {key: value for key, value in a.items() if key.startswith("adapter/")}
    assert adapters and all(torch.equal(value, d[key]) for key, value in adapters.items())


def test_pooled_group_trains_on_the_data_of_a_clients_group(
    tiny: Path, tmp_path: Path, trained: list[tuple[str, int, list[str]]]
) -> None:
    run = start(tiny, tmp_path / "run", "pooled-group")  # groups a, b and c, d; a and d are alike
    assert len(trained) == 8  # four pairs of an architecture and a group, two rounds
    for last in (0, 1):
        found = sorted(sorted(ids) for _, number, ids in trained if number == last)
        one, two = (sorted(drawn_until(tiny, last, names)) for names in ("ab", "cd"))
        assert found == sorted([one, one, two, two])
    first, second = (state_of(run, name, 2) for name in "ad")
    assert any(not torch.equal(first[key], second[key]) for key in first if "adapter/" in key)


def test_pooled_group_continues_from_the_adapter_of_the_group() -> None:
    algorithm, server = federation("pooled-group", ["small"] * 3)
    groups = dict(zip(("c0", "c1", "c2"), ("x", "y", "x"), strict=True))
    algorithm.group = groups.__getitem__
    updates = updates_of(["small"] * 3)
    algorithm.aggregate(server, {name: updates[name] for name in ("c0", "c1")})
    for receiver, sender in (("c0", "c0"), ("c1", "c1"), ("c2", "c0")):
        member = next(member for member in server.members if member.name == receiver)
        download = algorithm.download(server, member).tensors
        assert download.keys() == updates[sender].tensors.keys()
        assert all(torch.equal(updates[sender].tensors[k], v) for k, v in download.items())


def test_pooled_does_not_depend_on_the_process_that_trains(tiny: Path) -> None:
    """Use two runtimes as two processes; d, of a's architecture, misses the first round."""
    here, there = (stage(tiny, "pooled", "train.steps=1", "rounds=2") for _ in range(2))
    for number, training in ((0, [here["a"]]), (1, [here["a"], here["d"], there["d"]])):
        received = Message()
        found = []
        for client in training:
            client.context.round = number
            algorithm = client.runtime.algorithm
            with client.turn():
                if number:
                    received = received if received.tensors else algorithm.upload(client.context)
                    algorithm.receive(client.context, received)
                algorithm.train(client.context)
                found.append(read_state(client.model, "local"))
        assert all(
            torch.equal(value, other[key]) for other in found for key, value in found[0].items()
        )
    assert any(value.any() for key, value in found[0].items() if key.endswith(".B"))


@pytest.mark.parametrize("name", POOLED)
def test_pooled_says_that_it_is_no_federation(name: str) -> None:
    kind = algorithm_class(name)
    assert "ORACLE" in kind.summary and "private data leave their clients" in (kind.__doc__ or "")
