"""Test that inputs go to the peers whose prompts they resemble, and what travels for that."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import fedmosaic
from fedmosaic.adapters import read_state
from fedmosaic.algorithms.common import moved
from fedmosaic.algorithms.common.expert_bank import ExpertBank, owner_of
from fedmosaic.algorithms.common.experts import EXPERT
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.evaluation import Score
from fedmosaic.experiments import adapt as adapt_module
from fedmosaic.federation import client_evaluation
from fedmosaic.federation.client_evaluation import ClientEvaluation
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.measure import Timed
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from tests.federation.short_run import numbers
from tiny_scenario import TINY

PAIR = [
    {"name": "a", "model": "miniature/llama-8x96", "tasks": ["miniature/stages-0"]},
    {"name": "b", "model": "miniature/llama-8x96", "tasks": ["miniature/idiom-1"]},
    {"name": "c", "model": "miniature/qwen2-10x112", "tasks": ["miniature/cuisine-0"]},
]
MOVED = {"fedmosaic-experts": {"across": "moved"}}
VIEWS = ["mixed", "own", "experts-random", "experts-permuted", "experts-client", "routed-base"]


def run(out: Path, algorithm: str, workers: int = 1, seed: int = 0, **changes: Any) -> Any:
    content = {
        **TINY,
        "clients": PAIR,
        "rounds": 2,
        "data": {**TINY["data"], "train": 24, "test": 12},
        "evaluation": {"every": 0, "views": VIEWS},
        **changes,
    }
    scenario = Scenario.model_validate(content)
    return fedmosaic.run(
        scenario,
        algorithm=algorithm,
        out=out,
        progress=False,
        trackers=(),
        workers=workers,
        seed=seed,
    )


def clients_after(folder: Path, rounds: int) -> InProcess:
    opened, settings = RunFolder.open(folder)
    clients = InProcess(Runtime(settings))
    clients.load(opened.checkpoints / f"round-{rounds:04d}" / "clients")
    return clients


def routes(folder: Path, view: str, client: str) -> dict[str, dict[str, int]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        line["task"]: line["routes"]
        for line in lines
        if line["kind"] == "score" and (line["view"], line["client"]) == (view, client)
    }


def by_client(counts: dict[str, int]) -> Counter[str]:
    """Count the inputs of all experts of a client together."""
    found: Counter[str] = Counter()
    for view, count in counts.items():
        found[owner_of(view)] += count
    return found


@pytest.fixture(scope="module", params=["experts", "fedmosaic-experts"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp(request.param) / "run", request.param, algorithms=MOVED)


def test_inputs_go_to_the_peer_with_such_prompts(ran: Any) -> None:
    found = routes(ran.folder, "mixed", "a")
    assert found["miniature/idiom-1"].get("expert b", 0) >= 7
    assert found["miniature/stages-0"].get("own", 0) >= 7
    across = ran.summary["algorithm"] == "fedmosaic-experts"
    assert (by_client(found["miniature/cuisine-0"])["expert c"] >= 6) == across
    permuted = routes(ran.folder, "experts-permuted", "a")
    if across:
        assert permuted["miniature/idiom-1"] != found["miniature/idiom-1"]
    else:
        assert permuted == found, "a single expert has nobody to exchange prototypes with"


def test_the_download_before_an_evaluation_has_the_experts(ran: Any) -> None:
    lines = [json.loads(line) for line in (ran.folder / "metrics.jsonl").read_text().splitlines()]
    down = {
        (ln["round"], ln["client"]): ln["bytes"]["down"] for ln in lines if ln["kind"] == "client"
    }
    clients = clients_after(ran.folder, 2).clients
    across = ran.summary["algorithm"] == "fedmosaic-experts"
    same = {"a": {"b"}, "b": {"a"}, "c": set()}
    for name in same:
        bank = ExpertBank(clients[name].state)
        peers = set("abc") - {name} if across else same[name]
        assert {owner_of(expert) for expert in bank.names} == peers
        assert {expert for expert in bank.names if bank.same_model(expert)} == same[name]
        for peer in peers - same[name]:
            parts = [rows for expert, rows in bank.prototypes().items() if owner_of(expert) == peer]
            assert len(parts) == 4 and sum(map(len, parts)) == 16
        held = sum(4 * v.numel() for p in bank.names for v in bank.adapter(p).values())
        assert down[1, name] >= held + sum(4 * v.numel() for v in bank.prototypes().values())


def test_an_expert_is_the_adapter_that_its_client_sent(ran: Any) -> None:
    before, after = clients_after(ran.folder, 1).clients, clients_after(ran.folder, 2).clients
    with before["b"].turn():
        sent = read_state(before["b"].model, "local")
    bank = ExpertBank(after["a"].state)
    for key, value in bank.adapter("b").items():
        assert torch.equal(value, sent[key]), key
    assert set(bank.adapter("b")) == set(sent)
    with after["a"].turn() as context:
        own = read_state(after["a"].model, "local")
        with after["a"].algorithm.view(context, EXPERT + "b") as model:
            used = read_state(model, "local")
        assert all(torch.equal(used[key], sent[key]) for key in sent)
        restored = read_state(after["a"].model, "local")
    assert all(torch.equal(restored[key], own[key]) for key in own)


def test_routing_to_experts_changes_no_training(ran: Any, tmp_path: Path) -> None:
    plain = "sft" if ran.summary["algorithm"] == "experts" else "fedmosaic-additive"
    other = run(tmp_path / "plain", plain, evaluation={"every": 0})
    own = ran.summary["also"]["own, after"]
    assert own["self"]["last"] == other.summary["self"]["last"]
    assert own["others"]["last"] == other.summary["others"]["last"]


@pytest.mark.parametrize("across", ["moved", "trained"])
def test_peers_of_other_architectures_give_p_and_q_that_are_read_by_difference(
    tmp_path: Path, across: str
) -> None:
    options = {"fedmosaic-experts": {"across": across}}
    found = run(tmp_path / "run", "fedmosaic-experts", algorithms=options)
    clients = clients_after(found.folder, 2).clients
    bank = ExpertBank(clients["c"].state)
    names = {"a", "b"} if across == "trained" else {f"{n}/{part}" for n in "ab" for part in "1234"}
    assert set(bank.names) == names
    first = min(names)
    assert all(key.startswith("block.") for key in bank.adapter(first))
    before = clients_after(found.folder, 1).clients["a"]
    with before.turn():
        trained = read_state(before.model, "local")
    equal = [torch.equal(value, trained[key]) for key, value in bank.adapter(first).items()]
    assert all(equal) if across == "trained" else not any(equal)
    for name in names:
        assert any(value.any() for value in bank.adapter(name).values())
    assert by_client(routes(found.folder, "mixed", "c")["miniature/idiom-1"])["expert b"] >= 7
    with clients["c"].turn() as context:
        differs = clients["c"].algorithm.compares_with_base
        assert differs(context, EXPERT + first)
        assert not differs(context, "own")
    with clients["a"].turn() as context:
        assert not clients["a"].algorithm.compares_with_base(context, EXPERT + "b")


def test_workers_give_the_same_numbers(ran: Any, tmp_path: Path) -> None:
    name = ran.summary["algorithm"]
    other = run(tmp_path / "run", name, workers=2, algorithms=MOVED)
    assert numbers(other.folder) == numbers(ran.folder)


def test_a_budget_leaves_experts_out(tmp_path: Path) -> None:
    options = {"experts": {"megabytes": 0.01}}
    found = run(tmp_path / "run", "experts", algorithms=options)
    assert not ExpertBank(clients_after(found.folder, 2).clients["a"].state).names


def test_noise_hides_prototypes_and_a_secret_draws_it(tmp_path: Path) -> None:
    content = {**TINY, "clients": PAIR, "routing": {"noise_std": 0.5}}
    content["relevance"] = {"model": "miniature/llama-8x96"}
    sent = []
    for secret in (b"", b"s" * 32):
        settings = RunSettings(
            name="noise", algorithm="experts", scenario=Scenario.model_validate(content)
        )
        runtime = Runtime(settings)
        runtime.secret = secret
        client = InProcess(runtime, {"a"}).clients["a"]
        client.stream._arrived = client.stream.sample_count
        with client.turn() as context:
            context.round = 1
            sent.append(runtime.algorithm.upload(context).tensors["prototypes"])
    assert not torch.equal(sent[0], sent[1])
    # 16 prototypes of norm 1: noise of 0.5 · √16 in each coordinate, in which they drown.
    for noisy in sent:
        assert float(noisy.std()) == pytest.approx(2.0, rel=0.1)


def test_noise_that_hides_every_prototype_is_reported(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'a': hardly any input can go to an expert: the noise"):
        found = run(tmp_path / "run", "experts", routing={"noise_std": 0.02})
    assert "expert" not in found.summary["answered_by"]


def test_a_new_task_starts_from_the_expert_that_knows_its_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(tmp_path / "run", "experts")
    starts: list[dict[str, torch.Tensor]] = []
    measure = adapt_module.measure

    def watched(runtime: Runtime, backbone: Any, *rest: Any) -> Any:
        starts.append(runtime.adapted(backbone.name).state())
        return measure(runtime, backbone, *rest)

    monkeypatch.setattr(adapt_module, "measure", watched)
    tasks = ["miniature/idiom-2"]
    fedmosaic.adapt(
        found.folder, tasks=tasks, clients=["a"], every=2, points=1, items=4, received=True
    )
    last = clients_after(found.folder, 2).clients
    with last["a"].turn():
        own = read_state(last["a"].model, "local")
    with last["b"].turn():
        peer = read_state(last["b"].model, "local")
    plain, received = starts[0], starts[2]  # before and after training, plain and received
    assert all(torch.equal(plain[f"local/{key}"], value) for key, value in own.items())
    assert all(torch.equal(received[f"local/{key}"], value) for key, value in peer.items())


def test_a_client_that_comes_late_has_experts_at_once(tmp_path: Path) -> None:
    found = run(tmp_path / "run", "experts", rounds=4, participation=0.34, seed=3)
    lines = [json.loads(line) for line in (found.folder / "metrics.jsonl").read_text().splitlines()]
    trained = [line["clients"] for line in lines if line["kind"] == "round"]
    assert all(len(clients) == 1 for clients in trained)
    late, before = trained[-1][0], {name for clients in trained[:-1] for name in clients}
    peers = before - {late, "c"} if late != "c" else set()
    bank = ExpertBank(clients_after(found.folder, 4).clients[late].state)
    assert set(bank.names) == peers != set()


def test_without_refined_alignment_other_architectures_give_nothing_and_it_says_so(
    tmp_path: Path,
) -> None:
    with pytest.warns(UserWarning, match=r"no experts of other architectures.*alignment.refine"):
        found = run(tmp_path / "run", "fedmosaic-experts")
    assert not ExpertBank(clients_after(found.folder, 2).clients["c"].state).names


def test_the_summary_says_which_models_answered(ran: Any) -> None:
    counted = ran.summary["answered_by"]
    assert sum(counted.values()) == 3 * 3 * 12
    assert counted["own"] >= 3 * 6 and counted["expert"] >= 2 * 6


def test_only_experts_of_other_architectures_are_compared_with_the_base_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(tmp_path / "run", "fedmosaic-experts", algorithms=MOVED)
    client = clients_after(found.folder, 2).clients["a"]
    bases: dict[str, Any] = {}
    some = ClientEvaluation._some

    def watched(self: ClientEvaluation, view: str, rows: list[list[int]]) -> Any:
        monkeypatch.setattr(
            client_evaluation, "scores_of_some", lambda *given: bases.setdefault(view, given[-1])
        )
        some(self, view, rows)
        return [Timed(Score.of([0.0] * len(of_test)), 0.0) for of_test in rows]

    monkeypatch.setattr(ClientEvaluation, "_some", watched)
    with client.turn():
        asked = ClientEvaluation(client, Instructions(round=1), "after")
        asked.records()
    parts = [base for view, base in bases.items() if view.startswith("expert c/")]
    assert parts and all(base is client.backbone.model for base in parts)
    assert bases["expert b"] is None


@pytest.mark.parametrize(("most", "samples"), [(4, 10), (10, 10), (128, 10), (3, 100)])
def test_the_examples_that_moved_p_learns_from_are_evenly_drawn(most: int, samples: int) -> None:
    chosen = [place for place in range(samples) if moved._counts(place, most, samples)]
    assert len(chosen) == min(most, samples)
    gaps = {b - a for a, b in itertools.pairwise(chosen)}
    assert max(gaps) - min(gaps) <= 1
