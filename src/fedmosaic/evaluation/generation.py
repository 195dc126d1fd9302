"""Generate answers by greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fedmosaic.data.example import Example
from fedmosaic.evaluation.batches import prepare, prompt_batches
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.limits import context_length


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

    Every answer ends at its own end-of-turn token, independently of the other samples of its batch,
    or where the context of the model is full.

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
    for limit, chosen in _by_limit(backbone, examples, max_new_tokens).items():
        some = [examples[index] for index in chosen] if limit > 0 else []
        for places, batch in prompt_batches(backbone, some, batch_size):
            rows = _greedy(backbone, model, batch, limit)
            for place, row in zip(places, rows, strict=True):
                text = backbone.tokenizer.decode(row, skip_special_tokens=True)
                texts[chosen[place]] = text.strip()
    return texts


def _by_limit(backbone: Backbone, examples: Sequence[Example], most: int) -> dict[int, list[int]]:
    """Return the indices of the examples by the number of tokens that an answer may have."""
    longest = context_length(backbone.text_config)
    found: dict[int, list[int]] = {}
    for index, example in enumerate(examples):
        room = most
        if longest is not None:
            room = min(most, longest - len(backbone.encode(example, answer=False).input_ids))
        found.setdefault(room, []).append(index)
    return found


def _greedy(backbone: Backbone, model: Any, batch: Batch, limit: int) -> list[list[int]]:
    from transformers import GenerationConfig

    prepare(model, batch)
    stops = backbone.stop_tokens
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=limit,
        eos_token_id=stops,
        pad_token_id=backbone.pad_token_id,
    )
    inputs = {name: value for name, value in batch.inputs.items() if name != "position_ids"}
    out = model.generate(**inputs, generation_config=settings)
    rows: list[list[int]] = []
    for row in out[:, batch.input_ids.shape[1] :].tolist():
        end = next((place for place, token in enumerate(row) if token in stops), len(row))
        rows.append(row[:end])
    return rows
