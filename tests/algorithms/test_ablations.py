"""FedMosaic's ablations and controls, and the all-data oracle: each differs in what it says, and in nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from test_aggregation import ARCHITECTURES, federation, updates_of
from torch import Tensor

import fedmosaic
from fedmosaic.adapters import adapter_parameters, read_state
from fedmosaic.algorithms import (
    PRESETS,
    Message,
    algorithm_class,
    algorithm_names,
    make_algorithm,
    pooled,
)
from fedmosaic.algorithms.base import Member
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import read_tensors
from fedmosaic.relevance import overlap_weights, relevance_weights, similarity_std
from fedmosaic.reporting.listings import print_listing

MODELS = ("miniature/llama-8x96", "miniature/qwen2-10x112", "miniature/llama-12x128")


def stage(tiny: Path, algorithm: str, *overrides: str) -> dict[str, Any]:
    """The clients before the first round."""
    scenario = load_scenario(tiny, [f"relevance.model={MODELS[0]}", *overrides])
    settings = RunSettings(name="stage", algorithm=algorithm, scenario=scenario)
    return InProcess(Runtime(settings)).clients


def start(
    tiny: Path, out: Path, algorithm: str, *overrides: str, rounds: int = 2, **options: Any
) -> Any:
    sets = ["evaluation={every: 0, items: 1, others: false}", *overrides]
    options = {"workers": 1, "progress": False, "trackers": (), "set": sets, **options}
    return fedmosaic.run(tiny, algorithm=algorithm, out=out, rounds=rounds, **options)


def state_of(run: Any, client: str, round: int) -> dict[str, Tensor]:
    return read_tensors(
        run.folder / "checkpoints" / f"round-{round:04d}" / "clients" / f"{client}.safetensors"
    )[0]


# --- presets ------------------------------------------------------------------------------------------------------------
def test_all_are_listed_with_a_line_of_their_own() -> None:
    out = io.StringIO()
    print_listing("algorithms", Console(file=out))
    shown = out.getvalue()
    summaries = [algorithm_class(name).summary for name in algorithm_names()]
    assert all(
        name in shown and summary in shown
        for name, summary in zip(algorithm_names(), summaries, strict=True)
    )
    assert len(set(summaries)) == len(summaries)
    assert all(algorithm_class(name).name == name for name in algorithm_names())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_its_settings_and_nothing_else(name: str) -> None:
    chosen = PRESETS[name]
    scenario = load_scenario("miniature/hetero", ["alignment.method=gradients"])
    plain, changed = make_algorithm("fedmosaic", scenario, 0), make_algorithm(name, scenario, 0)
    assert isinstance(changed, type(plain)) and changed.steps == plain.steps == 11
    before, after = plain.scenario.model_dump(), changed.scenario.model_dump()
    for section, values in chosen.settings.items():
        assert {**before[section], **values} == after.pop(section) != before.pop(section)
    assert {**before.pop("algorithms"), name: {"steps": 11, **chosen.options}} == after.pop(
        "algorithms"
    )
    assert before == after and (chosen.settings or chosen.options)
    assert changed.options.model_dump() == {**plain.options.model_dump(), **chosen.options}
    again = make_algorithm(name, changed.scenario, 0)
    assert again.scenario == changed.scenario and again.options == changed.options


def test_options_under_a_presets_own_name_win() -> None:
    scenario = load_scenario(
        "miniature/hetero", ["algorithms.fedmosaic-pull.pull=0.5", "algorithms.fedmosaic.pull=0.1"]
    )
    assert make_algorithm("fedmosaic-pull", scenario, 0).options.pull == 0.5
    assert make_algorithm("fedmosaic", scenario, 0).options.pull == 0.1
    assert make_algorithm("fedmosaic-top2", scenario, 0).options.pull == 0.1
    with pytest.raises(ConfigError, match="Did you mean 'pull'"):
        make_algorithm(
            "fedmosaic-pull",
            load_scenario("miniature/hetero", ["algorithms.fedmosaic-pull.pul=1"]),
            0,
        )
    with pytest.raises(ConfigError, match="fedmosaic-uniform"):
        algorithm_class("fedmosaic-unifrom")


def test_the_run_folder_says_what_a_preset_set(tiny: Path, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run", "fedmosaic-oracle", rounds=1)
    folder, settings = RunFolder.open(run.folder)
    assert settings.algorithm == run.summary["algorithm"] == "fedmosaic-oracle"
    assert settings.scenario.relevance.kind == "oracle"
    weights = next(
        line["relevance"]["weights"] for line in folder.lines() if line["kind"] == "round"
    )
    assert weights == [
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
    ]  # stages, stages, idiom, idiom


# --- what is shared -----------------------------------------------------------------------------------------------------
def test_within_an_architecture_p_never_comes_from_another() -> None:
    algorithm, server = federation("fedmosaic-within", ARCHITECTURES)
    updates = updates_of(ARCHITECTURES)
    algorithm.aggregate(server, updates)
    sent = [algorithm.download(server, member).tensors for member in server.members]
    for one, peer in (("c0", "c2"), ("c2", "c0"), ("c1", "c3"), ("c3", "c1"), ("c4", "c4")):
        for key, value in sent[int(one[1])].items():  # one peer each, or none
            assert torch.equal(value, updates[peer].tensors[key]), (one, key)
    plain, beside = federation("fedmosaic", ARCHITECTURES)
    plain.aggregate(beside, updates)
    whole = plain.download(beside, beside.members[0]).tensors
    assert not torch.equal(whole["block.0.q_proj.P"], sent[0]["block.0.q_proj.P"])


def test_foreign_p_is_added_to_the_own_architectures_mix() -> None:
    updates = updates_of(ARCHITECTURES)
    sent = {}
    for foreign in (0.0, 2.0):
        algorithm, server = federation(
            "fedmosaic", ARCHITECTURES, algorithms={"fedmosaic": {"foreign": foreign}}
        )
        algorithm.aggregate(server, updates)
        sent[foreign] = [algorithm.download(server, member).tensors for member in server.members]
    weights = torch.tensor(server.report["relevance"]["weights"])
    for index, (name, own) in enumerate((("c0", "c2"), ("c1", "c3"), ("c4", "c4"))):
        place = int(name[1])
        others = [k for k, model in enumerate(ARCHITECTURES) if model != ARCHITECTURES[place]]
        share = weights[place, others] / weights[place, others].sum()
        for key, value in sent[2.0][place].items():
            expected = updates[own].tensors[key].clone()
            assert torch.equal(sent[0.0][place][key], expected), (index, key)
            if key.startswith("block"):
                expected += 2 * sum(
                    w * updates[f"c{k}"].tensors[key] for w, k in zip(share, others, strict=True)
                )
            torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    ("name", "private"), [("fedmosaic-private", "block"), ("fedmosaic-partial", "layer")]
)
def test_what_is_not_shared_stays_at_home_and_is_its_own_global(
    tiny: Path, name: str, private: str
) -> None:
    client = stage(tiny, name)["a"]
    algorithm = client.runtime.algorithm
    noise = torch.Generator().manual_seed(1)
    with client.turn():
        for adapter in ("local", "global"):
            for parameter in adapter_parameters(client.model, adapter, gates=False).values():
                parameter.data.copy_(torch.randn(parameter.shape, generator=noise))
        sent = algorithm.upload(client).tensors
        own = read_state(client.model, "local")
        assert set(sent) == {key for key in own if not key.startswith(private)} | {"signature"}
        algorithm.receive(
            client, Message({k: torch.zeros_like(v) for k, v in sent.items() if k != "signature"})
        )
        for key, value in read_state(client.model, "global").items():
            assert torch.equal(
                value, own[key] if key.startswith(private) else torch.zeros_like(value)
            )
        assert all(
            torch.equal(value, own[key]) for key, value in read_state(client.model, "local").items()
        )


@pytest.mark.parametrize(
    ("name", "kind"), [("fedmosaic-private", "layer."), ("fedmosaic-partial", "block.")]
)
def test_the_server_mixes_what_is_shared_as_before(name: str, kind: str) -> None:
    algorithm, server = federation(name, ARCHITECTURES)
    plain, beside = federation("fedmosaic", ARCHITECTURES)
    updates = updates_of(ARCHITECTURES)
    plain.aggregate(beside, updates)
    less = {
        c: Message({**u.select(kind), "signature": u.tensors["signature"]})
        for c, u in updates.items()
    }
    algorithm.aggregate(server, less)
    for member in server.members:
        sent, whole = (
            algorithm.download(server, member).tensors,
            plain.download(beside, member).select(kind),
        )
        assert sent.keys() == whole.keys() and all(
            torch.equal(value, whole[key]) for key, value in sent.items()
        )


def test_to_share_nothing_is_another_algorithm() -> None:
    with pytest.raises(ConfigError, match="fedmosaic-alone"):
        federation(
            "fedmosaic",
            ARCHITECTURES,
            algorithms={"fedmosaic": {"share": "none", "share_layers": "none"}},
        )


# --- whom one listens to ------------------------------------------------------------------------------------------------
def test_oracle_weights_are_the_overlap_of_families() -> None:
    families = [["x", "x", "y"], ["x", "x", "z"], ["y", "x"], ["u"], ["v"]]
    groups = ["one", "one", "two", "two", ""]
    weights = overlap_weights(families, groups)
    assert torch.allclose(weights.sum(1), torch.ones(5)) and not weights.diagonal().any()
    assert torch.allclose(
        weights[0], torch.tensor([0, 0.5, 0.5, 0, 0])
    )  # two x with c1; x and y with c2
    assert torch.allclose(weights[1], torch.tensor([2 / 3, 0, 1 / 3, 0, 0]))
    assert torch.equal(
        weights[3], torch.tensor([0, 0, 1.0, 0, 0])
    )  # no family in common: its group
    assert torch.equal(
        weights[4], torch.tensor([0.25, 0.25, 0.25, 0.25, 0])
    )  # nor a group: everybody
    assert torch.equal(overlap_weights([["x"]], [""]), torch.ones(1, 1))
    instruction = [3, 0, 4, 2, 1]
    permuted = overlap_weights([families[i] for i in instruction], [groups[i] for i in instruction])
    assert torch.allclose(permuted, weights[instruction][:, instruction])


def test_the_oracle_looks_at_families_not_at_signatures() -> None:
    algorithm, server = federation("fedmosaic-oracle", ["small"] * 4)
    families = {"c0": ("x",), "c1": ("y",), "c2": ("x",), "c3": ("x",)}
    server.members = [
        Member(**{**m.model_dump(), "families": families[m.name]}) for m in server.members
    ]
    updates = updates_of(["small"] * 4)
    algorithm.aggregate(
        server, {name: updates[name] for name in ("c1", "c2", "c3")}
    )  # c0 is not there yet
    assert server.report["relevance"]["weights"] == [[0, 0.5, 0.5], [0, 0, 1], [0, 1, 0]]
    algorithm.aggregate(server, updates)
    expected = [[0, 0, 0.5, 0.5], [1 / 3, 0, 1 / 3, 1 / 3], [0.5, 0, 0, 0.5], [0.5, 0, 0.5, 0]]
    assert torch.allclose(
        torch.tensor(server.report["relevance"]["weights"]), torch.tensor(expected)
    )


@pytest.mark.parametrize(
    ("name", "sources"), [("fedmosaic-top2", 2), ("fedmosaic-random", 2), ("fedmosaic-uniform", 4)]
)
def test_how_many_one_listens_to(name: str, sources: int) -> None:
    algorithm, server = federation(name, ARCHITECTURES)
    algorithm.aggregate(server, updates_of(ARCHITECTURES))
    weights = torch.tensor(server.report["relevance"]["weights"])
    assert ((weights > 0).sum(1) == sources).all() and not weights.diagonal().any()
    assert torch.allclose(weights.sum(1), torch.ones(5), atol=1e-6)


def test_a_sharp_temperature_counts_in_deviations_of_the_similarities() -> None:
    reports = {}
    for name in ("fedmosaic", "fedmosaic-sharp"):
        algorithm, server = federation(name, ARCHITECTURES)
        algorithm.aggregate(server, updates_of(ARCHITECTURES))
        reports[name] = {
            key: torch.tensor(server.report["relevance"][key]) for key in ("weights", "similarity")
        }
    alike = reports["fedmosaic-sharp"]["similarity"]
    assert (
        torch.equal(alike, reports["fedmosaic"]["similarity"])
        and 0.01 < similarity_std(alike) < 0.9
    )
    for name, tau in (("fedmosaic", 0.5), ("fedmosaic-sharp", 0.5 * similarity_std(alike))):
        assert torch.allclose(reports[name]["weights"], relevance_weights(alike, tau), atol=1e-5)


# --- other designs ------------------------------------------------------------------------------------------------------
def test_alone_is_a_federation_of_one(tiny: Path, tmp_path: Path) -> None:
    one = "clients=[{name: a, model: miniature/llama-8x96, tasks: [miniature/stages-0]}]"
    federated, alone = (start(tiny, tmp_path / n, n, one) for n in ("fedmosaic", "fedmosaic-alone"))
    left, right = state_of(federated, "a", 2), state_of(alone, "a", 2)
    assert all(torch.equal(value, left[key]) for key, value in right.items())
    assert any(
        value.any() for key, value in right.items() if key.startswith("adapter/global/block.")
    )
    assert "kept/signature" in left and "kept/signature" not in right
    assert alone.summary["bytes"]["up"] < 1000 < federated.summary["bytes"]["up"]


def test_homogeneous_is_ordinary_lora_on_every_layer(tiny: Path, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run", "fedmosaic-lora", "alignment.method=gradients")
    a, d = state_of(run, "a", 1), state_of(run, "d", 2)
    got = {key: value for key, value in d.items() if key.startswith("adapter/global/")}
    assert {key.split("/")[2].split(".")[1] for key in got} == {str(layer) for layer in range(8)}
    assert all("/layer." in key for key in got)
    # a and d share an architecture, so that each receives the other's; b is alone in its and receives its own
    assert all(
        torch.equal(value, a[key.replace("/global/", "/local/")]) for key, value in got.items()
    )
    before, b = state_of(run, "b", 1), state_of(run, "b", 2)
    own = {key: value for key, value in b.items() if key.startswith("adapter/global/")}
    assert own and all(
        torch.equal(value, before[key.replace("/global/", "/local/")]) for key, value in own.items()
    )


def test_without_a_gate_both_branches_add_and_only_the_local_one_trains(
    tiny: Path, tmp_path: Path
) -> None:
    run = start(tiny, tmp_path / "run", "fedmosaic-no-gate", rounds=3)
    two, three = state_of(run, "a", 2), state_of(run, "a", 3)
    assert not any("/gate." in key for key in three)
    assert any(
        not torch.equal(three[key], two[key]) for key in three if key.startswith("adapter/local/")
    )
    weights = [
        line["relevance"]["weights"]
        for line in RunFolder(run.folder).lines()
        if line["kind"] == "round"
    ][1]
    key = "block.0.q_proj.P"
    expected = sum(
        w * state_of(run, c, 2)[f"adapter/local/{key}"]
        for w, c in zip(weights[0], "abcd", strict=True)
    )
    torch.testing.assert_close(three[f"adapter/global/{key}"], expected, rtol=1e-4, atol=1e-7)
    client = stage(tiny, "fedmosaic-no-gate")["a"]
    layer = client.model.base_model.model.model.language_model.layers[3].self_attn.q_proj
    assert layer.coefficients(["local", "global"]) == {"local": 1.0, "global": 1.0}


# --- the all-data oracle ------------------------------------------------------------------------------------------------
def test_pooled_trains_one_adapter_on_what_all_clients_would_draw(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    run = start(tiny, tmp_path / "run", "pooled")
    # once an architecture and round, though two clients share the first
    assert sorted((name, round) for name, round, _ in seen) == sorted(
        (m, r) for m in MODELS for r in (0, 1)
    )
    for round in (0, 1):
        drawn = []
        for client in stage(tiny, "sft", "rounds=2").values():
            for number in range(round + 1):
                client.stream.begin_round(number)
                batches = [client.stream.next_batch() for _ in range(3)]
            drawn += [example.id for batch in batches for example in client.stream.examples(batch)]
        instructions = [ids for _, number, ids in seen if number == round]
        assert all(
            ids == instructions[0] and sorted(ids) == sorted(drawn) and ids != drawn
            for ids in instructions
        )
    a, d = state_of(run, "a", 2), state_of(run, "d", 2)
    adapters = {key: value for key, value in a.items() if key.startswith("adapter/")}
    assert adapters and all(torch.equal(value, d[key]) for key, value in adapters.items())


def test_pooled_does_not_depend_on_who_trains_where(tiny: Path) -> None:
    """Two sites stand for two processes. In the first round d, of a's architecture, is away."""
    here, there = (stage(tiny, "pooled", "train.steps=1", "rounds=2") for _ in range(2))
    everywhere = [here["a"], here["d"], there["d"]]
    for round, training in ((0, [here["a"]]), (1, everywhere)):
        received = Message()
        found = []
        for client in training:
            client.round = round
            with client.turn():
                if round:
                    received = (
                        received if received.tensors else client.runtime.algorithm.upload(client)
                    )
                    client.runtime.algorithm.receive(client, received)
                client.runtime.algorithm.train(client)
                found.append(read_state(client.model, "local"))
        assert all(
            torch.equal(value, other[key]) for other in found for key, value in found[0].items()
        )
    assert any(value.any() for key, value in found[0].items() if key.endswith(".B"))


def test_pooled_says_that_it_is_no_federation() -> None:
    kind = algorithm_class("pooled")
    assert "ORACLE" in kind.summary and "private data leave their clients" in (kind.__doc__ or "")
