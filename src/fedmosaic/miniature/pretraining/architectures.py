"""Define the miniature models: one CLIP-style vision tower and three language models.

They are models of Hugging Face's LLaVA class. They are deep because Co-LoRA is placed on the last
layer of each block and needs ordinary layers in between; they are narrow so that pretraining takes
minutes on one core. The tower (60 × 60 pixels, nine patches) has the same weights in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

from fedmosaic.errors import ModelError, nearest
from fedmosaic.miniature.world.scene import CELL, IMAGE_SIZE

IMAGE_TOKENS = (IMAGE_SIZE // CELL) ** 2
"""Tokens of an image: one for each patch, nine."""
TOWER_WIDTH = 96
INIT_STD = 0.08
"""Standard deviation of the language models' initial weights.

With the usual 0.02 such narrow models do not learn.
"""


@dataclass(frozen=True)
class Architecture:
    """Describe one miniature language model.

    Attributes:
        name: e.g. ``llama-8x96``; ``miniature/`` + name loads it.
        family: ``"llama"`` or ``"qwen2"``; each family has its own tokenizer and chat template.
        layers: number of decoder layers.
        width: size of the hidden states.
        heads: number of attention heads; it divides ``width``.
        intermediate: width of the feed-forward layers.
        initial_depth: number of layers that pretraining begins with; the others are added later.
        steps: pretraining steps.
        steps_per_minute: typical speed on one core, by which a duration becomes a number of steps.
    """

    name: str
    family: str
    layers: int
    width: int
    heads: int
    intermediate: int
    initial_depth: int
    steps: int
    steps_per_minute: int


_ALL = (
    Architecture(
        "llama-8x96", "llama", 8, 96, 4, 256, initial_depth=4, steps=3600, steps_per_minute=480
    ),
    Architecture(
        "llama-12x128", "llama", 12, 128, 4, 256, initial_depth=4, steps=3000, steps_per_minute=300
    ),
    Architecture(
        "qwen2-10x112", "qwen2", 10, 112, 4, 224, initial_depth=4, steps=3200, steps_per_minute=360
    ),
)
ARCHITECTURES: dict[str, Architecture] = {architecture.name: architecture for architecture in _ALL}


def get_architecture(name: str) -> Architecture:
    """Return the architecture of a name, with or without ``miniature/``.

    Raises:
        ModelError: there is no architecture of that name.
    """
    short = name.removeprefix("miniature/")
    if short not in ARCHITECTURES:
        raise ModelError(f"unknown miniature architecture {name!r}.{nearest(short, ARCHITECTURES)}")
    return ARCHITECTURES[short]


def folder_name(architecture: str, seed: int) -> str:
    """Return the name of the folder with the weights of one pretraining seed.

    It is ``llama-8x96`` for seed 0 and ``llama-8x96-1`` for seed 1.
    """
    return architecture if seed == 0 else f"{architecture}-{seed}"


def tower_config() -> CLIPVisionConfig:
    """Return the configuration of the shared tower: 3 layers of width 96, patches of 20 pixels."""
    return CLIPVisionConfig(
        hidden_size=TOWER_WIDTH,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=CELL,
        projection_dim=TOWER_WIDTH,
    )


def build_tower(seed: int) -> CLIPVisionModel:
    """Return an untrained tower."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPVisionModel(tower_config())


def build_model(architecture: Architecture, tokenizer: PreTrainedTokenizerBase, seed: int) -> Any:
    """Return an untrained ``LlavaForConditionalGeneration`` in float32 on the CPU.

    Matrices and embeddings are drawn with standard deviation :data:`INIT_STD`; the tower has CLIP's
    own initialisation.

    Args:
        architecture: the model to build.
        tokenizer: its tokenizer, which gives the size of the vocabulary.
        seed: draws the weights.
    """
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": architecture.width,
        "intermediate_size": architecture.intermediate,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.heads,
        "max_position_embeddings": 1024,
        "initializer_range": INIT_STD,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = LlamaConfig(**common) if architecture.family == "llama" else Qwen2Config(**common)
    config = LlavaConfig(
        vision_config=tower_config(),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
        for name, weight in model.named_parameters():
            if "vision_tower" not in name and weight.ndim == 2:
                torch.nn.init.normal_(weight, std=INIT_STD)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
