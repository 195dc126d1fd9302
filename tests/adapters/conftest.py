"""Provide tiny random models: LLaVA with a Llama or Qwen2 backbone, and the language models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from fedmosaic.adapters import CoLoraConfig, adapter_parameters, build_pair

FAMILIES = ("llama", "qwen2", "llava-llama", "llava-qwen2")
LAYERS = 6
IMAGE = 63


def build_base(family: str, *, layers: int = LAYERS, width: int = 32) -> nn.Module:
    """Return a random model of 6 layers, 32 wide, 64 tokens; equal at every call."""
    torch.manual_seed(7)
    kind = LlamaConfig if family.endswith("llama") else Qwen2Config
    text = kind(
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        use_cache=False,
    )
    if not family.startswith("llava"):
        return (LlamaForCausalLM if family == "llama" else Qwen2ForCausalLM)(text).eval()
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1
    )
    return LlavaForConditionalGeneration(config).eval()


def build_inputs(family: str) -> dict[str, Tensor]:
    """Return two sequences; for LLaVA each has one image of 16 tokens."""
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(3, IMAGE, (2, 24), generator=draw)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if family.startswith("llava"):
        ids[:, 1:17] = IMAGE
        inputs["pixel_values"] = torch.randn(2, 3, 16, 16, generator=draw)
    return inputs


def fill(model: PeftModel, *names: str, seed: int = 11, size: float = 0.15) -> PeftModel:
    """Fill the adapters and their gates with random values."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in names or ("local", "global"):
            for parameter in adapter_parameters(model, name).values():
                parameter.copy_(size * torch.randn(parameter.shape, generator=draw))
    return model


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def base() -> Callable[..., nn.Module]:
    return build_base


@pytest.fixture
def inputs() -> Callable[[str], dict[str, Tensor]]:
    return build_inputs


@pytest.fixture
def filled() -> Callable[..., PeftModel]:
    return fill


@pytest.fixture
def pair() -> Callable[..., PeftModel]:
    """Return ``pair(family, **config)``, which adds the active pair with random values."""

    def make(family: str = "llama", **options: Any) -> PeftModel:
        config = CoLoraConfig(**{"r": 4, "lora_alpha": 8.0, "num_blocks": 2, **options})
        return fill(build_pair(build_base(family), config))

    return make
