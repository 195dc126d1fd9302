"""Test answers with merged weights against the layers as they are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from fedmosaic.adapters import activate
from fedmosaic.adapters.inference import merged_weights
from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.models import packed

Pair = Callable[..., PeftModel]
Inputs = Callable[[str], dict[str, Tensor]]


@pytest.fixture(params=[True, False], ids=["packed", "plain product"])
def packing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Pack on every processor, or on none."""
    if request.param and not (packed.HAS_OPS and torch.backends.mkldnn.is_available()):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(packed, "_suitable_processor", lambda: request.param)
    return bool(request.param)


@torch.no_grad()
def logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(**inputs).logits
    return found


def replaced(model: nn.Module) -> list[str]:
    return [name for name, layer in model.named_modules() if "forward" in layer.__dict__]


def used(model: nn.Module) -> list[str]:
    """Return the adapted layers that computed with a merged weight."""
    layers = [layer for layer in model.modules() if isinstance(layer, AdaptedLinear)]
    return [
        layer.colora_site.module
        for layer in layers
        if getattr(layer.__dict__.get("forward"), "product", None) is not None
    ]


@pytest.mark.parametrize("active", [("local", "global"), ("local",), ("global",), ()])
@pytest.mark.parametrize("gate", ["scalar", "none"])
def test_answers_are_the_same_and_the_model_is_left_as_it_was(
    packing: bool, pair: Pair, inputs: Inputs, family: str, active: tuple[str, ...], gate: str
) -> None:
    model, batch = pair(family, gate=gate).eval(), inputs(family)
    if active:
        activate(model, *active)
    else:
        model.base_model.disable_adapter_layers()
    plain = logits(model, batch)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with merged_weights(model):
        fast = logits(model, batch)
        assert len(used(model)) == 42  # 7 projections of 6 layers
    assert torch.allclose(fast, plain, rtol=0, atol=2e-6)
    assert torch.equal(logits(model, batch), plain)
    assert not replaced(model)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert set(before) == set(after)


def test_nothing_is_left_after_an_error(pair: Pair, inputs: Inputs) -> None:
    model = pair().eval()
    with pytest.raises(KeyError), merged_weights(model):
        logits(model, inputs("llama"))
        assert replaced(model)
        raise KeyError
    assert not replaced(model)


def test_new_weights_are_seen_by_the_next_evaluation(
    pair: Pair, inputs: Inputs, filled: Callable[..., PeftModel]
) -> None:
    model, batch = pair().eval(), inputs("llama")
    with merged_weights(model):
        old = logits(model, batch)
    filled(model, seed=5)
    with merged_weights(model):
        new = logits(model, batch)
    assert torch.allclose(new, logits(model, batch), rtol=0, atol=2e-6)
    assert not torch.allclose(new, old, atol=1e-3)


def test_layers_beyond_the_memory_stay_as_they_are(pair: Pair, inputs: Inputs) -> None:
    model, batch = pair().eval(), inputs("llama")
    plain = logits(model, batch)
    with merged_weights(model, memory=2 * 4 * 32 * 32):
        assert torch.allclose(logits(model, batch), plain, rtol=0, atol=2e-6)
        assert used(model) == ["q_proj", "k_proj", "v_proj"]  # k and v are half as large as q
    with merged_weights(model, memory=0):
        assert torch.equal(logits(model, batch), plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: None,
        lambda model: model.to(torch.bfloat16),
        lambda model: [
            layer.base_layer.register_forward_hook(lambda *_: None)
            for layer in model.modules()
            if isinstance(layer, AdaptedLinear)
        ],
        lambda model: model.train(),
    ],
    ids=["input gate", "bfloat16", "hooks", "dropout"],
)
def test_what_is_no_fixed_product_stays_as_it_is(
    pair: Pair, inputs: Inputs, request: pytest.FixtureRequest, change: Callable[[Any], Any]
) -> None:
    case = request.node.callspec.id
    model = pair(gate="input" if case == "input gate" else "scalar", lora_dropout=0.1).eval()
    change(model)
    with merged_weights(model):
        torch.manual_seed(0)
        fast = logits(model, inputs("llama"))
        assert not used(model)
    if case != "input gate":  # there the other layers are packed
        torch.manual_seed(0)
        assert torch.equal(fast, logits(model, inputs("llama")))


def test_gradients_pass_through_the_layers_as_they_are(pair: Pair, inputs: Inputs) -> None:
    model = pair().eval()
    with merged_weights(model):
        model(**inputs("llama")).logits.sum().backward()
        assert not used(model)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_adapters_of_peft_keep_their_layers(
    packing: bool, base: Callable[..., nn.Module], inputs: Inputs
) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    model, batch = get_peft_model(base("llama"), config).eval(), inputs("llama")
    plain = logits(model, batch)
    with merged_weights(model):
        assert torch.allclose(logits(model, batch), plain, rtol=0, atol=2e-6)
        model.base_model.disable_adapter_layers()
        bare = logits(model, batch)
        model.base_model.enable_adapter_layers()
    assert torch.allclose(bare, logits(base("llama").eval(), batch), rtol=0, atol=2e-6)
