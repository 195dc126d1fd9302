"""Generate answers by greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fedmosaic.data.example import Example
from fedmosaic.evaluation.batches import prepare, prompt_batches
from fedmosaic.models.backbone import Backbone, Batch


@torch.no_grad()
def generate(
    backbone: Backbone,
    model: Any,
    examples: Sequence[Example],
    *,
    batch_size: int = 64,
    max_new_tokens: int = 16,
) -> list[str]:
    """Generate answers greedily.

    Every answer ends at its own end-of-turn token, independently of the other samples of its batch.

    Args:
        backbone: Encodes the prompts.
        model: The bare model, or the model with adapters.
        examples: Examples whose prompts are continued.
        batch_size: Sequences in a batch.
        max_new_tokens: Most tokens of an answer.

    Returns:
        One text for each example, in order.
    """
    texts = [""] * len(examples)
    for indices, batch in prompt_batches(backbone, examples, batch_size):
        tokens = _greedy(backbone, model, batch, max_new_tokens)
        for index, row in zip(indices, tokens, strict=True):
            texts[index] = backbone.tokenizer.decode(row, skip_special_tokens=True).strip()
    return texts


def _greedy(backbone: Backbone, model: Any, batch: Batch, limit: int) -> list[list[int]]:
    prepare(model, batch)
    ends = torch.tensor(_end_tokens(backbone), device=backbone.device)
    rows: list[list[int]] = [[] for _ in range(len(batch))]
    alive = torch.ones(len(batch), dtype=torch.bool, device=backbone.device)
    mask, embedded, cache = batch.attention_mask, backbone.embed(batch), None
    embedding = backbone.model.get_input_embeddings()
    for _ in range(limit):
        output = model(
            inputs_embeds=embedded,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        token = output.logits[:, -1].argmax(dim=-1)
        alive = alive & ~torch.isin(token, ends)
        for row, value, live in zip(rows, token.tolist(), alive.tolist(), strict=True):
            if live:
                row.append(value)
        if not alive.any():
            break
        mask = torch.cat([mask, mask.new_ones(len(batch), 1)], dim=1)
        embedded = embedding(token[:, None])
    return rows


def _end_tokens(backbone: Backbone) -> list[int]:
    """Return the end-of-turn tokens of the tokenizer and the model's settings (Llama 3, Qwen)."""
    own = getattr(getattr(backbone.model, "generation_config", None), "eos_token_id", None)
    listed = own if isinstance(own, list) else [own] if own is not None else []
    return sorted({backbone.tokenizer.eos_token_id, *listed})
