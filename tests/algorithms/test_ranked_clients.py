"""Check clients with adapters of their own rank: what they train, receive, keep and send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

import fedmosaic
from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.algorithms import Message
from fedmosaic.algorithms.common.ranks import first_rows, resize
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import read_tensors
from fedmosaic.models.backbone import Backbone

MIXED = ["clients=[{name: a, model: miniature/llama-8x96, r: 2, tasks: [miniature/stages-0]}, "
         "{name: d, model: miniature/llama-8x96, r: 6, tasks: [miniature/idiom-1]}]"]  # fmt: skip


def stage(tiny: Path, algorithm: str, *overrides: str) -> dict[str, LocalClient]:
    """Return the clients before the first round, by name."""
    scenario = load_scenario(tiny, [*MIXED, "adapter.dropout=0", *overrides])
    return InProcess(
        Runtime(RunSettings(name="stage", algorithm=algorithm, scenario=scenario))
    ).clients


def start(tiny: Path, out: Path, algorithm: str, *overrides: str, rounds: int = 2) -> Any:
    quick = "evaluation={every: 0, items: 1, others: false}"
    options = {
        "overrides": [*MIXED, quick, *overrides],
        "rounds": rounds,
        "workers": 1,
        "progress": False,
        "trackers": (),
    }
    return fedmosaic.run(tiny, algorithm=algorithm, out=out, **options)


def state_of(run: Any, client: str, round: int) -> dict[str, Tensor]:
    return read_tensors(
        run.folder / "checkpoints" / f"round-{round:04d}" / "clients" / f"{client}.safetensors"
    )[0]


def test_a_clients_own_rank_is_that_rank(tiny: Path, tmp_path: Path) -> None:
    """Compare with a federation in which all have that rank and scale: equal bit for bit."""
    mixed = start(tiny, tmp_path / "mixed", "sft")
    alike = start(
        tiny,
        tmp_path / "alike",
        "sft",
        "adapter.r=2",
        "adapter.alpha=4",
        MIXED[0].replace("r: 6", "r: 2"),
    )
    one, two = state_of(mixed, "a", 2), state_of(alike, "a", 2)
    assert one.keys() == two.keys() and all(
        torch.equal(value, two[key]) for key, value in one.items()
    )
    assert one["adapter/local/layer.0.q_proj.A"].shape[0] == 2
    assert state_of(mixed, "d", 2)["adapter/local/layer.0.q_proj.A"].shape[0] == 6


def test_all_ranks_have_one_scale(tiny: Path) -> None:
    for client in stage(tiny, "sft").values():
        layer = client.model.base_model.model.model.language_model.layers[0].self_attn.q_proj
        assert layer.scaling["local"] == 2.0 and layer.r["local"] == client.spec.r


def test_clients_of_an_architecture_start_from_the_same_rows(tiny: Path) -> None:
    for algorithm in ("hetlora", "ffa-lora", "fedsa-lora"):
        a, d = (read_state(client.model, "local") for client in stage(tiny, algorithm).values())
        assert all(torch.equal(value, d[key][:2]) for key, value in a.items() if key.endswith(".A"))


def test_mixed_ranks_are_refused_before_anything_is_written(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clients\.1\.r: .*flexlora"):
        start(tiny, tmp_path / "run", "fedavg")
    assert not (tmp_path / "run").exists()


# --- HetLoRA --------------------------------------------------------------------------------------
def test_dropped_directions_stay_dropped_and_the_rest_trains_as_that_rank(tiny: Path) -> None:
    """Compare a client of rank 6 that dropped three directions with one of rank 3."""
    pruned = stage(tiny, "hetlora", "algorithms.hetlora.gamma=1")["d"]
    true = stage(tiny, "hetlora", "algorithms.hetlora.gamma=1", MIXED[0].replace("r: 6", "r: 3"))[
        "d"
    ]
    pruned.state["rank"] = torch.tensor(3)
    noise = torch.Generator().manual_seed(5)
    received = {
        k: torch.randn(v.shape, generator=noise) / 10
        for k, v in read_state(pruned.model, "local").items()
    }
    learned = []
    for client, whole in ((pruned, 6), (true, 3)):
        algorithm = client.runtime.algorithm
        with client.turn():
            algorithm.receive(client.context, Message(resize(received, whole)))
            client.stream.begin_round(0)
            algorithm.train(client.context)
            learned.append(read_state(client.model, "local"))
    for key, value in resize(learned[1], 6).items():
        # In the norm: Adam magnifies the last bits of single entries.
        assert (learned[0][key] - value).norm() < 1e-3 * value.norm(), key
        tail = learned[0][key][3:] if key.endswith(".A") else learned[0][key][:, 3:]
        assert not tail.any()
        assert not torch.equal(value, resize(resize(received, 3), 6)[key])


def test_ranks_prune_themselves_where_the_penalty_shrinks_the_tail(tiny: Path) -> None:
    options = (
        "algorithms.hetlora={gamma: 0.5, penalty: 1000, min_rank: 2}",
        "train.lr=0.005",
        "train.steps=10",
    )
    client = stage(tiny, "hetlora", *options)["d"]
    noise = torch.Generator().manual_seed(5)
    received = {
        k: torch.randn(v.shape, generator=noise) / 5
        for k, v in read_state(client.model, "local").items()
    }
    algorithm = client.runtime.algorithm
    with client.turn():
        algorithm.receive(client.context, Message(received))
        client.stream.begin_round(0)
        algorithm.train(client.context)
        sent = algorithm.upload(client.context).tensors
    assert int(client.state["rank"]) == 3
    for key, value in sent.items():
        assert not (value[3:] if key.endswith(".A") else value[:, 3:]).any()
        assert (value[:3] if key.endswith(".A") else value[:, :3]).any()


def test_a_tail_that_grows_is_kept(tiny: Path, tmp_path: Path) -> None:
    """Run the first round, in which B starts from zero and no norm can shrink."""
    run = start(
        tiny, tmp_path / "run", "hetlora", "algorithms.hetlora={gamma: 0.5, penalty: 0}", rounds=1
    )
    state = state_of(run, "d", 1)
    assert "kept/rank" not in state and all(value.isfinite().all() for value in state.values())


# --- FLoRA ----------------------------------------------------------------------------------------
def test_flora_goes_on_from_the_merged_sum_with_a_fresh_adapter(tiny: Path) -> None:
    client = stage(tiny, "flora")["a"]
    algorithm = client.runtime.algorithm
    noise = torch.Generator().manual_seed(5)
    shapes = {key: value.shape for key, value in read_state(client.model, "local").items()}
    sent = {  # a stack of rank 8
        k: torch.randn((8, s[1]) if k.endswith("A") else (s[0], 8), generator=noise) / 20
        for k, s in shapes.items()
    }
    batch = client.backbone.collate(
        [client.backbone.encode(example) for example in client.stream.tasks[0].test[:2]]
    )
    inputs = batch.inputs
    with client.turn():
        before = read_state(client.model, "local")
        client.context.round = 1
        algorithm.receive(client.context, Message(sent))
        fresh = read_state(client.model, "local")
        held = read_state(client.model, "global")
        assert all(not value.any() for key, value in fresh.items() if key.endswith(".B"))
        assert all(
            not torch.equal(value, before[key])
            for key, value in fresh.items()
            if key.endswith(".A")
        )
        with torch.no_grad():
            merged = client.backbone.fork()
            for key, a in sent.items():
                if key.endswith(".A"):
                    _, layer, module = key.removesuffix(".A").split(".")
                    block = merged.model.language_model.layers[int(layer)]
                    home = (
                        block.mlp
                        if module in ("gate_proj", "up_proj", "down_proj")
                        else block.self_attn
                    )
                    linear = getattr(home, module)
                    changed = linear.weight + sent[f"layer.{layer}.{module}.B"] @ a
                    linear.weight = torch.nn.Parameter(changed, requires_grad=False)
            expected = merged(**inputs).logits
            torch.testing.assert_close(
                client.model(**inputs).logits, expected, rtol=1e-4, atol=1e-4
            )
            with algorithm.view(client.context, "global") as model:
                torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-4, atol=1e-4)
        client.stream.begin_round(1)
        algorithm.train(client.context)
        after = read_state(client.model, "global")
        assert all(torch.equal(value, held[key]) for key, value in after.items())
        assert all(
            p.grad is None and not p.requires_grad
            for p in adapter_parameters(client.model, "global").values()
        )
        assert any(
            value.any()
            for key, value in read_state(client.model, "local").items()
            if key.endswith(".B")
        )
        assert set(algorithm.upload(client.context).tensors) == set(fresh)


def test_an_exported_client_of_flora_is_its_model(tiny: Path, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run", "flora")
    fedmosaic.export(run.folder, "d", tmp_path / "lora")
    clients = stage(tiny, "flora", "rounds=2")
    clients["d"].load(run.folder / "checkpoints" / "round-0002" / "clients" / "d.safetensors")
    client = clients["d"]
    batch = client.backbone.collate(
        [client.backbone.encode(example) for example in client.stream.tasks[0].test[:2]]
    )
    inputs = batch.inputs
    backbone = Backbone.load(client.spec.model)
    loaded = PeftModel.from_pretrained(backbone.fork(), str(tmp_path / "lora")).eval()
    with torch.no_grad(), client.turn():
        logits = client.model(**inputs).logits
        torch.testing.assert_close(loaded(**inputs).logits, logits, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(backbone.model(**inputs).logits, logits, atol=1e-3)


# --- FedSA-LoRA and FFA-LoRA ----------------------------------------------------------------------
def test_fedsa_lora_sends_a_and_keeps_b(tiny: Path) -> None:
    client = stage(tiny, "fedsa-lora")["a"]
    algorithm = client.runtime.algorithm
    with client.turn():
        own = {
            key: torch.full_like(value, 0.5)
            for key, value in read_state(client.model, "local").items()
        }
        write_state(client.model, "local", own)
        sent = algorithm.upload(client.context).tensors
        assert sent and all(key.endswith(".A") for key in sent)
        algorithm.receive(
            client, Message({key: torch.ones_like(value) for key, value in sent.items()})
        )
        for key, value in read_state(client.model, "local").items():
            assert torch.equal(value, torch.full_like(value, 1.0 if key.endswith(".A") else 0.5))


def test_the_moments_of_fedsa_loras_b_last(tiny: Path) -> None:
    groups = stage(tiny, "fedsa-lora")["a"].adapted.optimiser.groups
    assert [{key[-1] for key in group.parameters} for group in groups] == [{"A"}, {"B"}]
    assert [group.personal for group in groups] == [False, True]


def test_ffa_lora_never_trains_a(tiny: Path, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run", "ffa-lora")
    state = {
        key.removeprefix("adapter/local/"): v
        for key, v in state_of(run, "a", 2).items()
        if "adapter/" in key
    }
    for key, value in state.items():
        if key.endswith(".A"):
            assert torch.equal(value, first_rows(*value.shape, 0, "miniature/llama-8x96", key))
        else:
            assert value.any(), key
    server = read_tensors(run.folder / "checkpoints" / "round-0002" / "server.safetensors")[0]
    assert server and len(state_of(run, "a", 2)["moment/step"]) == sum(
        key.endswith(".B") for key in state
    )
