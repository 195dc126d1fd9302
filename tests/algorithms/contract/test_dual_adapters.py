"""Check algorithms with two adapters: how adapters are mixed, and FedDAT's losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_federation import CLIENTS, SCENARIO, RecordedFederation, tiny_backbone
from torch import nn
from torch.nn import functional
from two_adapters import NO_DROPOUT, all_label_logits, batch_of, first_gradients, kl, randomise

from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.algorithms.common.activation import activate

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_a_mixture_is_the_sum_of_scaled_changes(tmp_path: Path) -> None:
    federation = RecordedFederation("ditto", tmp_path / "run")
    client = federation.client("a")
    model, batch = client.model, batch_of(client)
    randomise(model, ("local", "global"))
    activate(model, {"local": 0.3, "global": 0.7})
    mixed, _ = all_label_logits(model, client.backbone, batch)
    merged = client.backbone.fork()
    state = {name: read_state(model, name) for name in ("local", "global")}
    for path, module in merged.named_modules():
        key = (
            f"layer.{path.split('.')[-3]}.{path.split('.')[-1]}"
            if "layers" in path and path.endswith("proj")
            else ""
        )
        if key and "language_model" in path:
            change = sum(
                factor * 2.0 * state[name][f"{key}.B"] @ state[name][f"{key}.A"]
                for name, factor in (("local", 0.3), ("global", 0.7))
            )
            module.weight = nn.Parameter(module.weight.detach() + change)
    expected, _ = all_label_logits(merged, client.backbone, batch)
    base, _ = all_label_logits(client.backbone.model, client.backbone, batch)
    assert torch.allclose(mixed, expected, atol=1e-4) and not torch.allclose(mixed, base, atol=1e-2)
    activate(model, {"global": 1.0}, train=("global",))
    assert all(p.requires_grad for p in adapter_parameters(model, "global").values())
    assert not any(p.requires_grad for p in adapter_parameters(model, "local").values())
    activate(model, {"local": 0.3, "global": 0.7}, train=("local",))
    assert not any(p.requires_grad for p in adapter_parameters(model, "global").values()), (
        "active, but not trained"
    )


@pytest.mark.parametrize("name", ["ditto", "feddat", "feddpa", "fedsim", "fedalt"])
def test_activation_checkpointing_changes_nothing(tmp_path: Path, name: str) -> None:
    changes = {"adapter": NO_DROPOUT, "rounds": 2}
    plain = RecordedFederation(name, tmp_path / "plain", CLIENTS[:1], **changes).run()
    checkpointed = RecordedFederation(
        name,
        tmp_path / "checkpointed",
        CLIENTS[:1],
        models={"gradient_checkpointing": True},
        **changes,
    ).run()
    for key, value in plain.client("a")._adapters.items():
        assert torch.allclose(checkpointed.client("a")._adapters[key], value, atol=1e-5), key


def test_where_two_adapters_start(tmp_path: Path) -> None:
    starts = {
        name: RecordedFederation(name, tmp_path / name).client("a").adapted.fresh
        for name in ("ditto", "fedsim", "feddat")
    }
    key = "layer.0.q_proj.A"
    # Ditto's personal model begins as the common one. Adapters that are added up must not: they
    # would stay equal.
    assert torch.equal(starts["ditto"][f"local/{key}"], starts["ditto"][f"global/{key}"])
    assert not torch.equal(starts["fedsim"][f"local/{key}"], starts["fedsim"][f"global/{key}"])
    assert torch.equal(starts["feddat"][f"received/{key}"], starts["feddat"][f"global/{key}"])


# --- FedDAT ---------------------------------------------------------------------------------------
def test_feddat_teaches_both_ways_at_the_labels(tmp_path: Path) -> None:
    options = {"weight": 0.7, "temperature": 2.0}
    changes = {
        "adapter": NO_DROPOUT,
        "algorithms": {"feddat": options},
        "train": {**SCENARIO["train"], "clip": 0.0},
    }
    client = RecordedFederation("feddat", tmp_path / "run", CLIENTS[:1], **changes).client("a")
    model, backbone = client.model, client.backbone
    seen: list[Any] = []
    collate = backbone.collate
    with client.turn(), pytest.MonkeyPatch.context() as patch:
        randomise(model, ("local", "global", "received"))
        patch.setattr(backbone, "collate", lambda items: seen.append(collate(items)) or seen[-1])
        start = {name: read_state(model, name) for name in ("local", "global", "received")}
        client.stream.begin_round(0)
        with first_gradients() as found:
            client.runtime.algorithm.train(client.context)
        assert all(
            torch.equal(value, start["received"][key])
            for key, value in read_state(model, "received").items()
        )
        for name, state in start.items():
            write_state(model, name, state)

        activate(model, {"local": 0.5, "received": 0.5}, train=("local",))
        teacher, labels = all_label_logits(model, backbone, seen[0])
        local = adapter_parameters(model, "local")
        activate(model, {"global": 1.0})
        student = all_label_logits(model, backbone, seen[0])[0].detach()
        activate(model, {"local": 0.5, "received": 0.5}, train=("local",))
        taught = functional.cross_entropy(teacher, labels) + 0.7 * kl(student, teacher, 2.0)
        for parameter, gradient in zip(
            local.values(), torch.autograd.grad(taught, list(local.values())), strict=True
        ):
            assert torch.allclose(found[id(parameter)], gradient, rtol=1e-3, atol=1e-6)

        activate(model, {"global": 1.0}, train=("global",))
        student, _ = all_label_logits(model, backbone, seen[0])
        shared = adapter_parameters(model, "global")
        taught = functional.cross_entropy(student, labels) + 0.7 * kl(
            teacher.detach(), student, 2.0
        )
        for parameter, gradient in zip(
            shared.values(), torch.autograd.grad(taught, list(shared.values())), strict=True
        ):
            assert torch.allclose(found[id(parameter)], gradient, rtol=1e-3, atol=1e-6)


def test_backbones_stay_bare() -> None:
    for name in ("tiny/llama", "tiny/qwen2"):
        assert not any("lora" in key for key, _ in tiny_backbone(name).model.named_modules())
