"""Count equal compute and equal communication on real rounds; every run keeps to its budget."""

from __future__ import annotations

import json
import math
import sys
import types
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml

import fedmosaic
from benchmarks.cost.equal_compute import PAPER, PASSES, measure
from fedmosaic import algorithms
from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.experiments.equal_compute import affordable_rounds, equal_steps, resolve_budget
from fedmosaic.experiments.rehearsal import RoundCost, rehearse
from fedmosaic.federation.round_loop import RoundLoop
from fedmosaic.federation.run import resolve
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime

EQUAL = (
    "budget=flops",
    "train.steps=8",
    "rounds=2",
    "evaluation.every=0",
    "evaluation.others=false",
)


def run(tiny: Path, out: Path, *settings: str, **options: Any) -> Any:
    return fedmosaic.run(
        tiny, out=out, overrides=settings, progress=False, trackers=(), **{"workers": 1, **options}
    )


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in read if line["kind"] == kind]


def cost(flops: dict[str, int], in_steps: dict[str, int] | None = None) -> RoundCost:
    return RoundCost(
        flops, in_steps or flops, {"a": 30, "b": 40}, {"a": 10, "b": 20}, {"a": 1, "b": 2}
    )


def test_equal_steps_by_hand() -> None:
    clients = Counter({"small": 2, "large": 1})
    reference = cost({"small": 100, "large": 500})  # 700 together
    assert equal_steps(10, reference, reference, clients) == 10
    assert equal_steps(10, reference, cost({"small": 200, "large": 1000}), clients) == 5
    assert equal_steps(10, reference, cost({"small": 110, "large": 510}), clients) == 7000 / 730
    # 50 at each client whatever the number of steps.
    more = cost({"small": 150, "large": 550}, {"small": 100, "large": 500})
    assert equal_steps(10, reference, more, clients) == 10 * (700 - 150) / 700
    assert (
        equal_steps(
            10, reference, cost({"small": 900, "large": 900}, {"small": 1, "large": 1}), clients
        )
        == 0
    )


def test_affordable_rounds_by_hand() -> None:
    # Client b: 42 bytes in the first round, 60 in every other.
    expected = {41: 0, 42: 1, 101: 1, 102: 2, 162: 3}
    assert {limit: affordable_rounds(limit, cost({})) for limit in expected} == expected


@pytest.fixture(scope="module")
def equal(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return runs with ``budget: flops`` of 8 steps of local training, by algorithm."""
    from tiny_scenario import TINY

    folder = tmp_path_factory.mktemp("equal")
    path = folder / "tiny.yaml"
    mixed = {
        **TINY["clients"][0],
        "tasks": ["miniature/stages-0", "miniature/wardrobe-0", "miniature/idiom-3"],
    }
    path.write_text(yaml.safe_dump({**TINY, "clients": [mixed, TINY["clients"][1]]}))
    settings = [*EQUAL, "algorithms.fedmosaic.steps=3"]
    return cache(lambda algorithm: run(path, folder / algorithm, *settings, algorithm=algorithm))


def test_every_algorithm_gets_the_compute_of_local_training(equal: Any) -> None:
    budget = equal("sft").summary["flops"]["client_round"]
    assert equal("sft").summary["steps"] == equal("fedavg").summary["steps"] == 8
    assert equal("fedavg").summary["flops"]["client_round"] == budget
    ours = equal("fedmosaic").summary
    # A signature every second step costs about one step in five here. The scenario's own 3 steps
    # are ignored.
    assert 5 <= ours["steps"] < 8
    assert budget * (1 - 2 / ours["steps"]) < ours["flops"]["client_round"] <= budget * 1.03
    assert (
        equal("fedavg").summary["flops"]["server_round"]
        > 0
        == equal("sft").summary["flops"]["server_round"]
    )


def test_the_oracle_gets_the_compute_of_local_training(equal: Any) -> None:
    """Local training may not know what the oracle's weights need, and does not need it."""
    assert equal("fedmosaic-oracle").summary["steps"] == equal("fedmosaic-uniform").summary["steps"]


def test_what_was_counted_is_written_down_and_is_the_same_for_every_seed(equal: Any) -> None:
    one = yaml.safe_load((equal("fedmosaic").folder / "config.yaml").read_text())
    assert set(one["rehearsal"]["flops"]) == {c["model"] for c in one["scenario"]["clients"]}
    assert one["rehearsal"]["reference"] != one["rehearsal"]["flops"]
    settings = RunFolder.open(equal("fedmosaic").folder)[1].model_copy(
        update={"seed": 1, "rehearsal": None}
    )
    repeated = resolve(Runtime(settings), resolve_budget).rehearsal
    assert repeated is not None and repeated.model_dump(mode="json") == one["rehearsal"]
    assert one["scenario"]["algorithms"]["fedmosaic"]["steps"] == one["rehearsal"]["steps"]
    turns = lines(equal("fedmosaic").folder, "client")
    assert [("flops" in turn) for turn in turns] == [turn["round"] == 1 for turn in turns]
    assert {turn["steps"] for turn in turns} == {one["rehearsal"]["steps"]}


def test_counting_changes_no_number_of_a_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {
            p.name: p.read_bytes()
            for p in sorted((folder / "checkpoints" / "round-0002").rglob("*.safetensors"))
        }

    counted = run(tiny, tmp_path / "counted", rounds=2)
    monkeypatch.setattr(RoundLoop, "_counted_round", -1)
    plain = run(tiny, tmp_path / "plain", rounds=2)
    assert counted.summary["flops"] and plain.summary["flops"] is None
    assert files(counted.folder).keys() == files(plain.folder).keys()
    for name, content in files(plain.folder).items():
        if (
            name != "server.safetensors"
        ):  # it says how many lines of metrics there are, and they are longer, not more
            assert files(counted.folder)[name] == content, name
    values = [
        [line["value"] for line in lines(folder, "score")]
        for folder in (counted.folder, plain.folder)
    ]
    assert values[0] == values[1]


class PublicSteps(FedAvg):
    """Take four steps on public examples after a download, and three passes for an upload."""

    name: ClassVar[str] = "publicsteps"

    def receive(self, client: Client, download: Message) -> None:
        super().receive(client, download)
        client.state["received"] = torch.tensor(float(bool(download.tensors)))

    def train(self, client: Client) -> FitReport:
        if client.state["received"]:
            client.fit(4, examples=lambda: client.public()[:2])
        return client.fit(self.steps)

    def upload(self, client: Client) -> Message:
        if client.state.get("received"):
            # A third of a step's products go forward.
            batch = client.backbone.collate(
                [client.backbone.encode(e) for e in client.public()[:2]]
            )
            for _ in range(3):
                with torch.no_grad():
                    client.model(
                        **batch.inputs,
                    )
        return super().upload(client)


def test_work_beside_the_steps_counts_even_if_it_needs_a_download(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, equal: Any
) -> None:
    module = types.ModuleType("fedmosaic.algorithms.publicsteps")
    module.PublicSteps = PublicSteps  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(algorithms.TABLE, "publicsteps", "publicsteps:PublicSteps")
    clients = yaml.safe_load(tiny.read_text())
    tiny.write_text(yaml.safe_dump({**clients, "clients": clients["clients"][:2]}))
    summary = run(tiny, tmp_path / "run", *EQUAL, algorithm="publicsteps").summary
    assert 1 <= summary["steps"] <= 4
    assert summary["flops"]["client_round"] <= 1.05 * equal("sft").summary["flops"]["client_round"]
    with pytest.raises(ConfigError, match=r"larger train\.steps"):
        run(tiny, tmp_path / "poor", "budget=flops", "train.steps=1", algorithm="publicsteps")
    assert not (tmp_path / "poor").exists()


def test_bytes_limit_the_rounds(tiny: Path, tmp_path: Path) -> None:
    quick = ["evaluation={every: 0, items: 1, others: false}", "train.steps=1"]
    free = run(tiny, tmp_path / "free", *quick, rounds=3, algorithm="fedavg")

    def sent(folder: Path) -> dict[str, int]:
        total: Counter[str] = Counter()
        for line in lines(folder, "client"):
            total[line["client"]] += line["bytes"]["up"] + line["bytes"]["down"]
        return dict(total)

    most = max(sent(free.folder).values())
    cut = run(
        tiny,
        tmp_path / "cut",
        *quick,
        f"budget={{kind: bytes, megabytes: {(most - 1) / 1e6}}}",
        algorithm="fedavg",
    )
    assert cut.summary["rounds"] == {"done": 2, "of": 2} and max(sent(cut.folder).values()) < most
    same = run(
        tiny,
        tmp_path / "same",
        *quick,
        f"budget={{kind: bytes, megabytes: {most / 1e6}}}",
        algorithm="fedavg",
    )
    assert same.summary["rounds"]["of"] == 3 and max(sent(same.folder).values()) == most
    with pytest.raises(ConfigError, match="a round of fedavg takes"):
        run(tiny, tmp_path / "none", "budget={kind: bytes, megabytes: 0.001}", algorithm="fedavg")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("algorithm", ["flora", "fedex-lora", "experts", "fedmosaic-experts"])
def test_growing_downloads_have_no_budget_of_bytes(
    tiny: Path, tmp_path: Path, algorithm: str
) -> None:
    with pytest.raises(ConfigError, match=f"later downloads of {algorithm} can be larger"):
        run(tiny, tmp_path / "none", "budget={kind: bytes, megabytes: 9}", algorithm=algorithm)


def test_what_is_sent_in_turn_counts_with_its_mean(tiny: Path, tmp_path: Path) -> None:
    """RoLoRA sends B, then A, and from the third round on receives both."""
    quick = ["evaluation={every: 0, items: 1, others: false}", "train.steps=1", "rounds=3"]
    done = run(tiny, tmp_path / "run", *quick, algorithm="rolora")
    counted = rehearse(Runtime(RunFolder.open(done.folder)[1]), "rolora", 1)
    for name in counted.up:
        rounds = [line["bytes"] for line in lines(done.folder, "client") if line["client"] == name]
        assert rounds[0]["up"] != rounds[1]["up"]
        assert counted.up[name] == math.ceil((rounds[0]["up"] + rounds[1]["up"]) / 2)
        assert counted.down[name] == rounds[2]["down"] > 1.5 * rounds[1]["down"]


@pytest.mark.parametrize("budget", ["flops", "{kind: bytes, megabytes: 0.001}"])
def test_no_budget_limits_the_oracle(tiny: Path, budget: str) -> None:
    changes = [
        f"budget={budget}",
        "relevance.model=miniature/llama-8x96",
        "alignment.pivot=miniature/llama-8x96",
    ]
    scenario = load_scenario(tiny, changes)
    runtime = Runtime(RunSettings(name="oracle", algorithm="pooled", scenario=scenario))
    assert (
        resolve(runtime, resolve_budget) == runtime.settings and runtime.settings.rehearsal is None
    )
    assert (runtime.algorithm.steps, runtime.scenario.rounds) == (3, 3)
    assert "outside every budget" in runtime.algorithm.summary and "No budget limits it" in (
        runtime.algorithm.__doc__ or ""
    )


def test_budgets_that_say_nothing_are_refused(tiny: Path, tmp_path: Path) -> None:
    for wrong, message in (
        ("bytes", "megabytes"),
        ("{kind: flops, megabytes: 3}", "megabytes"),
        ("flop", "budget.kind"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(tiny, tmp_path / "run", f"budget={wrong}")


def test_the_papers_numbers_are_a_count_of_passes() -> None:
    assert {
        name: round(300 / (3 * trained + forward)) for name, (trained, forward) in PASSES.items()
    } == {name: steps for name, steps in PAPER.items() if name != "fedmosaic"}


def test_steps_of_the_papers_design_are_the_papers() -> None:
    """Measure one signature period at 1/32 of the size, as benchmarks.cost.equal_compute does."""
    measured = measure(32, 10, ["sft", "fedmosaic"])
    for name, found in measured.items():
        assert PAPER[name] - 3 <= found["steps for 100"] <= PAPER[name] + 3, name
