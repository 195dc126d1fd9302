"""Builders that language families share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.families.family import Tokenizer, text_config


def decoder(kind: str, **changes: object) -> Callable[[Tokenizer], PreTrainedModel]:
    """Return the builder of a tiny causal language model of the type ``kind``."""

    def build(tokenizer: Tokenizer) -> PreTrainedModel:
        config = text_config(partial(AutoConfig.for_model, kind), tokenizer, **changes)
        return AutoModelForCausalLM.from_config(config)

    return build


def full_and_sliding(layers: int = 3) -> dict[str, object]:
    """Return the settings that let every second layer see the last eight tokens only."""
    kinds = ("sliding_attention", "full_attention")
    return {"sliding_window": 8, "layer_types": [kinds[layer % 2] for layer in range(layers)]}
