"""Decide whether a model must be told the positions of tokens in a batch padded on the left."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

RELATIVE = frozenset(("default", "linear", "llama3", "yarn"))
"""Kinds of rotary embedding that do not depend on the length of the text."""

ROTARY_LAST = frozenset(
    (
        *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3"),
        *("qwen2_moe", "qwen3_moe", "mixtral", "granite", "olmo2", "cohere", "cohere2", "phi3"),
    )
)
"""Types of language model that rotate queries and keys as the last step before their product."""


def needs_positions(model: Any) -> bool:
    """Return whether padding on the left changes logits unless positions are passed.

    It does not where positions enter by rotary embeddings alone, as the last step before the
    product of queries and keys, which then depends on differences of positions. Models that compute
    positions in several dimensions (Qwen-VL) do so from the attention mask. All others need them.
    """
    if hasattr(getattr(model, "model", model), "get_rope_index"):
        return False
    if "position_ids" not in inspect.signature(type(model).forward).parameters:
        return False
    if model.config.get_text_config().model_type not in ROTARY_LAST:
        return True
    kinds = [
        kind
        for module in model.modules()
        if (kind := getattr(module, "rope_type", None)) is not None
    ]
    flat = [k for kind in kinds for k in (kind.values() if isinstance(kind, dict) else [kind])]
    return not flat or not RELATIVE.issuperset(flat)


def positions(attention_mask: Tensor) -> Tensor:
    """Return the position of each token among the unpadded ones, 0 at padding; int64 [n, T]."""
    return (attention_mask.cumsum(-1) - 1).clamp_min(0)
