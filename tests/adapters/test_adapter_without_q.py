"""Test Co-LoRA without Q: the formula, what is named and saved, and what makes no bias."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from torch import nn

from fedmosaic.adapters import (
    CoLoraConfig,
    CoLoraLinear,
    activate,
    calibrate,
    export_lora,
    read_state,
)
from fedmosaic.errors import ModelError


def colora_layers(model: nn.Module) -> list[CoLoraLinear]:
    return [layer for layer in model.modules() if isinstance(layer, CoLoraLinear)]


@pytest.mark.parametrize("names", [("local",), ("local", "global")])
@pytest.mark.parametrize("hooked", [False, True])
def test_output_and_gradients_equal_the_formula(pair, names, hooked: bool) -> None:
    model = pair("qwen2", q=False, gate_init=0.5).double()
    activate(model, *names)
    for layer in colora_layers(model)[:3]:
        if hooked:  # then the change is added to the base layer's own output
            layer.base_layer.register_forward_hook(lambda *_: None)
        x = torch.randn(2, 5, layer.in_features, dtype=torch.float64, requires_grad=True)
        weights = torch.randn(2, 5, layer.out_features, dtype=torch.float64)
        a, b = layer.shared_colora["frozen_A"], layer.shared_colora["frozen_B"]
        p = layer.colora_P["local"]
        used = [x, p]
        if len(names) == 2:
            g = torch.sigmoid(layer.colora_beta["local"])
            p = (1 - g) * p + g * layer.colora_P["global"]
            used.append(layer.colora_beta["local"])
        change = layer.colora_scaling["local"] * x @ a.T @ p.T @ b.T
        theirs = nn.functional.linear(x, layer.base_layer.weight, layer.base_layer.bias) + change
        ours = layer(x)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        expected = torch.autograd.grad((theirs * weights).sum(), used)
        found = torch.autograd.grad((ours * weights).sum(), used)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_paths_agree(pair, inputs) -> None:
    batch = inputs("llama")
    model = pair("llama", q=False)
    expected = model(**batch).logits
    for layer in colora_layers(model):
        layer.select_path = lambda *_: "reference"  # type: ignore[method-assign]
    torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-5)


def test_no_tensor_of_the_adapter_is_a_q(pair, base, inputs, tmp_path) -> None:
    batch = inputs("llama")
    model = pair("llama", q=False)
    calibrate(model, [batch])
    with_q = set(read_state(pair("llama"), "local", gates=True))
    without = set(read_state(model, "local", gates=True))
    assert with_q - without == {key for key in with_q if key.endswith(".Q")} and without < with_q
    model.save_pretrained(tmp_path)
    reloaded = PeftModel.from_pretrained(
        base("llama"), tmp_path / "local", adapter_name="local", is_trainable=True
    )
    reloaded.load_adapter(tmp_path / "global", "global")
    activate(reloaded, "local", "global")
    assert torch.equal(reloaded.eval()(**batch).logits, model(**batch).logits)
    trained = {name for name, p in reloaded.named_parameters() if p.requires_grad}
    assert trained and all(".local" in name for name in trained)


def test_nothing_makes_a_bias(pair, inputs) -> None:
    batch = inputs("llama")
    model = pair("llama", q=False, gate_init=0.3)
    config, state = export_lora(model)
    assert not config.lora_bias and not any(key.endswith(".bias") for key in state)
    expected = model(**batch).logits
    merged = model.merge_and_unload()  # with Q this needs new_bias=True
    torch.testing.assert_close(merged(**batch).logits, expected, rtol=1e-5, atol=1e-5)


def test_adapters_of_a_model_agree_on_q(pair) -> None:
    options = {"r": 4, "lora_alpha": 8.0, "num_blocks": 2}
    with pytest.raises(ModelError, match=r"'other' has q = False.*same q"):
        pair("llama").add_adapter("other", CoLoraConfig(**options, q=False))
    with pytest.raises(ModelError, match=r"'other' has q = True.*same q"):
        pair("llama", q=False).add_adapter("other", CoLoraConfig(**options))
