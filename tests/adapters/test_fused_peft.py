"""Test training of PEFT's LoRA by few operations: every bit must be that of PEFT."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from fedmosaic.adapters.fused_layers import TrainedLayer, fused_layers, in_few_operations
from fedmosaic.adapters.linear_passes import LinearPasses

SIZES: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 50,
}  # fmt: skip
TOKENS = torch.arange(60).reshape(3, 20) * 7 % 50
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(family: str = "llama", targets: list[str] = ALL, **settings: Any) -> Any:
    torch.manual_seed(0)
    base: Any = (
        LlamaForCausalLM(LlamaConfig(**SIZES))
        if family == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**SIZES))
    )
    config = LoraConfig(r=4, lora_alpha=6, target_modules=targets, **settings)
    model = get_peft_model(base, config)
    model.add_adapter("other", config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.train()


def step(model: Any, fused: bool) -> dict[str, Tensor]:
    """Return the loss and all gradients of one step."""
    torch.manual_seed(3)
    with in_few_operations(fused_layers(model)) if fused else nullcontext():
        loss = model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss
        loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return {"loss": loss.detach(), **found}


def layers_used(model: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Compare a step with that of the model itself; return how many layers were fused."""
    expected, used = step(model, fused=False), []
    with in_few_operations(fused_layers(model)):
        pass  # tries the layers
    forward = TrainedLayer._forward

    def noted(self: TrainedLayer, *given: Any) -> Tensor:
        used.append(self)
        return forward(self, *given)

    monkeypatch.setattr(TrainedLayer, "_forward", noted)
    found = step(model, fused=True)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    return len(used)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("targets", [ALL, ["q_proj", "v_proj"], ["down_proj"]], ids=len)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_bit_is_that_of_peft(
    family: str, targets: list[str], dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapted(family, targets, lora_dropout=dropout)
    assert layers_used(model, monkeypatch) == SIZES["num_hidden_layers"]


def both(model: Any) -> Any:
    model.base_model.set_adapter(["default", "other"])
    return model


@pytest.mark.parametrize(
    "change",
    [both, lambda _: adapted(use_dora=True), lambda _: adapted(lora_bias=True)],
    ids=["two adapters", "DoRA", "bias of LoRA"],
)
def test_other_kinds_of_lora_stay_as_they_are(
    change: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert layers_used(change(adapted("qwen2")), monkeypatch) == 0


def test_a_merged_or_disabled_adapter_has_no_pass() -> None:
    model = adapted()
    layer: Any = model.base_model.model.model.layers[0].self_attn.q_proj
    passes = LinearPasses(layer)
    assert passes.projection() is not None
    model.merge_adapter()
    assert passes.projection() is None
    model.unmerge_adapter()
    assert passes.projection() is not None
    with model.disable_adapter():
        assert passes.projection() is None
    assert passes.projection() is not None
