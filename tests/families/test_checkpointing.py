"""Test that activations can be recomputed in every family, and that nothing changes by it.

The default suite takes a sample; ``FEDMOSAIC_ALL_FAMILIES=1`` takes every family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from fedmosaic.adapters import CoLoraConfig, build_pair
from fedmosaic.adapters.targets import pattern
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.checkpointing import recompute_activations
from fedmosaic.models.options import ModelOptions
from fedmosaic.training.loss import answer_loss
from tests.families import LANGUAGE
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES
from tests.families.sample import sample
from tests.families.test_exact import SEEING

Adapt = Callable[[Backbone], Any]
FAMILIES = sample(
    [*SEEING, *LANGUAGE],
    *("llava_llama", "qwen2_vl", "qwen3_vl", "gemma3", "gemma4", "paligemma"),
    *("llama", "gemma3n_text", "gpt2", "gpt_oss", "jamba", "qwen3_next"),
)
HALF = sample([*SEEING, *LANGUAGE], "qwen3_vl", "gemma4", "gemma2", "mixtral")


def lora(backbone: Backbone) -> Any:
    config = LoraConfig(
        r=4, target_modules=pattern(backbone), lora_dropout=0.1, init_lora_weights=False
    )
    return get_peft_model(backbone.fork(), config)


def pair(backbone: Backbone) -> Any:
    """Return FedMosaic's local and global adapter, whose backward pass is written by hand."""
    config = CoLoraConfig(r=4, num_blocks=2, target_modules=pattern(backbone), lora_dropout=0.1)
    model = build_pair(backbone.fork(), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def train(backbone: Backbone, adapt: Adapt, recompute: bool) -> tuple[list[Tensor], Counter[str]]:
    """Return loss and gradients of one step, and how often each decoder layer's parts ran."""
    torch.manual_seed(0)
    model = adapt(backbone).train()
    base = model.get_base_model()
    if recompute:
        recompute_activations(backbone.name, base)
    calls: Counter[str] = Counter()
    for path, module in base.get_submodule(backbone.layers_prefix).named_modules():
        if hasattr(module, "base_layer"):
            module.register_forward_pre_hook(lambda *_, path=path: calls.update([path]))
    cases = ["one image"] if backbone.vision else ["two turns", "text"]
    batch = backbone.collate([backbone.encode(EXAMPLES[case]) for case in cases])
    torch.manual_seed(1)  # the same dropout
    loss = answer_loss(model, backbone, batch)
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)], calls


def check(backbone: Backbone, adapt: Adapt) -> None:
    stored, calls = train(backbone, adapt, recompute=False)
    recomputed, twice = train(backbone, adapt, recompute=True)
    assert len(stored) == len(recomputed) > 2 * backbone.num_layers
    tolerance = 1e-6 if backbone.dtype == torch.float32 else 1e-2
    for one, other in zip(stored, recomputed, strict=True):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance)
    assert len(calls) >= backbone.num_layers and set(calls.values()) == {1}
    assert twice.keys() == calls.keys() and set(twice.values()) == {2}
    bare = [getattr(module, "gradient_checkpointing", False) for module in backbone.model.modules()]
    assert not any(bare), "the base model, which other clients use, recomputes as well"


@pytest.mark.parametrize("name", FAMILIES)
def test_recomputed_activations_give_the_same_loss_and_gradients(load: Load, name: str) -> None:
    check(load(name), lora)


@pytest.mark.parametrize("name", FAMILIES)
def test_so_do_they_below_a_local_and_a_global_adapter(load: Load, name: str) -> None:
    check(load(name), pair)


@pytest.mark.parametrize("name", HALF)
def test_recomputed_activations_in_half_precision(folder_of: Any, name: str) -> None:
    check(Backbone.load(str(folder_of(name)), ModelOptions(dtype="bfloat16")), lora)
