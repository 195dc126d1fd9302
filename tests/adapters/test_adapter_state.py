"""Test the canonical names: reading, refusing, and the order of blocks across models."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from fedmosaic.adapters import (
    CoLoraConfig,
    adapter_parameters,
    build_pair,
    load_shared,
    read_state,
    shared_state,
    write_state,
)
from fedmosaic.errors import ModelError, UpdateError


def test_keys_and_shapes(pair, family: str) -> None:
    model = pair(family)  # 6 layers, 2 blocks: Co-LoRA on layers 2 and 5
    state = read_state(model, "local")
    blocks = {key.rsplit(".", 2)[0] for key in state if key.startswith("block")}
    layers = {key.rsplit(".", 2)[0] for key in state if key.startswith("layer")}
    assert blocks == {"block.0", "block.1"} and layers == {f"layer.{i}" for i in (0, 1, 3, 4)}
    assert len(state) == 6 * 7 * 2
    assert state["block.1.down_proj.P"].shape == (4, 4) and state["block.0.q_proj.Q"].shape == (4,)
    assert state["layer.3.down_proj.A"].shape == (4, 48) and state["layer.0.k_proj.B"].shape == (
        16,
        4,
    )
    assert read_state(model, "global").keys() == state.keys()


def test_gates_never_leave_by_accident(pair) -> None:
    model = pair("llama")
    assert not any(key.startswith("gate") for key in read_state(model, "local"))
    gates = {key for key in read_state(model, "local", gates=True) if key.startswith("gate")}
    assert gates == {
        f"gate.{i}.{m}"
        for i in range(6)
        for m in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert not any(key.startswith("gate") for key in read_state(model, "global", gates=True))
    with pytest.raises(UpdateError, match=r"gate\.0"):
        write_state(model, "local", read_state(model, "local", gates=True))


def test_block_k_is_the_kth_block_end_by_depth(base) -> None:
    """Find the mark of block k in the k-th block-end layer of models of different depth."""
    found = []
    for layers, ends in ((6, (2, 5)), (11, (4, 10))):
        model = build_pair(base("llama", layers=layers), CoLoraConfig(r=4, num_blocks=2))
        state = read_state(model, "local")
        for key, value in state.items():
            if key.endswith(".P") and key.startswith("block"):
                value.fill_(1.0 + int(key.split(".")[1]))
        write_state(model, "local", state)
        at = model.base_model.model.model.layers
        found.append([at[i].self_attn.q_proj.colora_P["local"][0, 0].item() for i in ends])
    assert found == [[1.0, 2.0], [1.0, 2.0]]


def test_p_and_q_fit_every_model(base) -> None:
    small = build_pair(base("llama", layers=6, width=32), CoLoraConfig(r=4, num_blocks=2))
    large = build_pair(base("qwen2", layers=9, width=64), CoLoraConfig(r=4, num_blocks=2))
    sent = {
        key: torch.randn_like(value)
        for key, value in read_state(small, "local").items()
        if key.startswith("block")
    }
    write_state(large, "global", sent, partial=True)
    received = read_state(large, "global")
    assert all(torch.equal(received[key], value) for key, value in sent.items())


def test_roundtrip_in_place_keeps_the_optimiser(pair, inputs) -> None:
    model, batch = pair("llama"), inputs("llama")
    parameters = adapter_parameters(model, "local")
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01)
    new = {
        key: torch.randn_like(value)
        for key, value in read_state(model, "local", gates=True).items()
    }
    write_state(model, "local", new, gates=True)
    assert all(torch.equal(parameters[key], value) for key, value in new.items())
    model(**batch).logits.sum().backward()
    optimizer.step()
    after = read_state(model, "local", gates=True)
    assert all(not torch.equal(after[key], value) for key, value in new.items()), (
        "the optimiser moves what was written"
    )


def test_read_state_is_a_copy(pair) -> None:
    model = pair("llama")
    state = read_state(model, "local")
    before = {key: value.clone() for key, value in state.items()}
    for value in state.values():
        value.zero_()
    assert all(torch.equal(value, before[key]) for key, value in read_state(model, "local").items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("block.1.q_proj.P"), r"lacks 'block\.1\.q_proj\.P'"),
        (
            lambda s: s.update({"block.7.q_proj.P": torch.zeros(4, 4)}),
            r"'block\.7\.q_proj\.P'.*Did you mean",
        ),
        (
            lambda s: s.update({"block.1.q_proj.P": torch.zeros(4, 5)}),
            r"block\.1\.q_proj\.P is \[4, 5\]",
        ),
        (
            lambda s: s["layer.0.o_proj.B"].__setitem__((0, 0), float("nan")),
            r"layer\.0\.o_proj\.B holds NaN",
        ),
        (
            lambda s: s["block.0.o_proj.Q"].__setitem__(0, float("inf")),
            r"block\.0\.o_proj\.Q holds NaN or Inf",
        ),
        (lambda s: s.update({"block.1.q_proj.P": torch.zeros(4, 4, dtype=torch.int64)}), "int64"),
        (lambda s: s.update({"block.1.q_proj.P": [0.0]}), "is list"),
    ],
)
def test_bad_state_changes_nothing(pair, change, message: str) -> None:
    model = pair("llama")
    before = read_state(model, "global")
    bad = {key: value + 1 for key, value in before.items()}
    change(bad)
    with pytest.raises(UpdateError, match=message):
        write_state(model, "global", bad)
    assert all(
        torch.equal(value, before[key]) for key, value in read_state(model, "global").items()
    )


def test_shared_state_is_checked_and_shared_by_both(pair, inputs) -> None:
    model, batch = pair("llama"), inputs("llama")
    shared = shared_state(model)
    assert {key.rsplit(".", 1)[1] for key in shared} == {"A", "B"} and len(shared) == 2 * 7 * 2
    assert shared["block.0.down_proj.A"].shape == (4, 48) and shared[
        "block.1.gate_proj.B"
    ].shape == (48, 4)
    outputs = []
    for factor in (1.0, 2.0):
        load_shared(model, {key: factor * value for key, value in shared.items()})
        for name in ("local", "global"):
            model.set_adapter(name)
            outputs.append(model(**batch).logits)
    assert not torch.allclose(outputs[0], outputs[2]) and not torch.allclose(outputs[1], outputs[3])
    with pytest.raises(UpdateError, match="lacks"):
        load_shared(model, dict(list(shared.items())[1:]))


def test_pefts_own_lora(base, inputs) -> None:
    model = get_peft_model(
        base("llama"), LoraConfig(r=3, target_modules=["q_proj", "down_proj"]), adapter_name="first"
    )
    model.add_adapter("second", model.peft_config["first"])
    state = {key: torch.randn_like(value) for key, value in read_state(model, "first").items()}
    assert len(state) == 6 * 2 * 2 and state["layer.5.down_proj.A"].shape == (3, 48)
    write_state(model, "second", state)
    assert all(torch.equal(value, state[key]) for key, value in read_state(model, "second").items())
    at = model.base_model.model.model.layers[5].mlp.down_proj
    assert torch.equal(at.lora_A["second"].weight, state["layer.5.down_proj.A"])
    assert not torch.equal(at.lora_A["first"].weight, state["layer.5.down_proj.A"])


def test_table_follows_adapters_that_come_and_go(pair) -> None:
    model = pair("llama")
    read_state(model, "global")
    model.delete_adapter("global")
    with pytest.raises(ModelError, match="no adapter 'global'; it has: 'local'"):
        read_state(model, "global")
    model.add_adapter("global", model.peft_config["local"])
    assert not any(v.any() for k, v in read_state(model, "global").items() if k[-1] in "PQB")
