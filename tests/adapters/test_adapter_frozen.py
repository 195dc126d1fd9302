"""Test that the global adapter, A and B of Co-LoRA and the base never train."""

from __future__ import annotations

import warnings

import pytest
import torch
from peft import get_peft_model

from fedmosaic.adapters import activate, adapter_parameters, read_state, shared_state
from fedmosaic.errors import ModelError


def train(model, batch, steps: int = 3) -> None:
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        model(**batch, labels=batch["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def switch(model, how: str) -> None:
    if how == "disable":
        with model.disable_adapter():
            pass
    elif how == "set":
        model.set_adapter("global")
        activate(model, "local", "global")
    elif how == "requires_grad":
        model.set_requires_grad("global", True)
    elif how == "layers":
        model.base_model.disable_adapter_layers()
        model.base_model.enable_adapter_layers()
    elif how == "delete":
        model.delete_adapter("global")
        model.add_adapter("global", model.peft_config["local"])
        activate(model, "local", "global")


@pytest.mark.parametrize("how", ["", "disable", "set", "requires_grad", "layers", "delete"])
@pytest.mark.parametrize("family", ["llama", "llava-qwen2"])
def test_only_the_local_adapter_and_the_gate_train(pair, inputs, family: str, how: str) -> None:
    model = pair(family)
    switch(model, how)
    local, received = read_state(model, "local", gates=True), read_state(model, "global")
    others = {k: v.clone() for k, v in model.state_dict().items() if "local" not in k}
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in adapter_parameters(model, "local").values()}
    train(model, inputs(family))
    for key, value in read_state(model, "global").items():
        assert torch.equal(value, received[key]), key
    for key, value in others.items():
        assert torch.equal(model.state_dict()[key], value), key
    for key, value in read_state(model, "local", gates=True).items():
        assert not torch.equal(value, local[key]), f"{key} did not train"


def test_active_global_alone_does_not_train(pair, inputs) -> None:
    model = pair("llama")
    model.set_adapter("global")
    assert not any(p.requires_grad for p in adapter_parameters(model, "global").values())


def test_frozen_tensors_get_no_gradient_and_no_parameter(pair, inputs) -> None:
    model = pair("llama")
    model(**inputs("llama")).logits.sum().backward()
    assert all(p.grad is None for n, p in model.named_parameters() if ".local" not in n)
    assert not any("shared" in name for name, _ in model.named_parameters())
    persistent = [name for name in model.state_dict() if "shared_colora" in name]
    assert len(persistent) == len(shared_state(model)) == 2 * 2 * 7


def test_one_pair_of_a_and_b_per_layer(pair) -> None:
    assert sum("shared_colora" in name for name, _ in pair("llama").named_buffers()) == 2 * 2 * 7


def test_disable_and_delete(pair, base, inputs) -> None:
    batch = inputs("llama")
    plain = base("llama")(**batch).logits
    model = pair("llama")
    mixed = model(**batch).logits
    with model.disable_adapter():
        assert torch.equal(model(**batch).logits, plain)
    assert torch.equal(model(**batch).logits, mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.delete_adapter("global")
    single = model(**batch).logits
    fresh = get_peft_model(base("llama"), model.peft_config["local"], adapter_name="only")
    with torch.no_grad():
        theirs = adapter_parameters(model, "local")
        for key, parameter in adapter_parameters(fresh, "only").items():
            parameter.copy_(theirs[key])
    assert not torch.allclose(single, mixed)
    (
        torch.testing.assert_close(fresh(**batch).logits, single),
        "one adapter has no gate, whatever its name",
    )
    with pytest.raises(ModelError, match="'global'"):
        activate(model, "local", "global")
