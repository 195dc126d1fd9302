"""Answer multiple-choice questions by the likelihood of their options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.evaluation.batches import prepare, prompt_batches
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE, Encoded

Length = Literal["sum", "mean"]


@torch.no_grad()
def choose_by_likelihood(
    backbone: Backbone, model: Any, examples: Sequence[Example], batch_size: int, length: Length
) -> list[int]:
    """Return the index of the likeliest option of each example; see :func:`.evaluate`."""
    chosen = [0] * len(examples)
    single: list[int] = []
    several: list[int] = []
    for index, example in enumerate(examples):
        (single if _one_token_each(backbone, example) else several).append(index)
    # The prompt's next-token distribution ranks options of one token each. The end of the turn has
    # about the same likelihood after any of them.
    for part, batch in prompt_batches(backbone, [examples[i] for i in single], batch_size):
        logits = _next_logits(backbone, model, batch)
        for row, position in enumerate(part):
            example = examples[single[position]]
            options = [_labelled(backbone.encode_option(example, o))[0] for o in example.spellings]
            chosen[single[position]] = int(logits[row, options].argmax())
    pairs = [(index, option) for index in several for option in examples[index].spellings]
    scores: dict[int, list[float]] = {index: [] for index in several}
    for start in range(0, len(pairs), batch_size):
        part_pairs = pairs[start : start + batch_size]
        items = [backbone.encode_option(examples[index], option) for index, option in part_pairs]
        values = log_likelihoods(backbone, model, items)
        for (index, _), item, value in zip(part_pairs, items, values, strict=True):
            scores[index].append(value / (len(_labelled(item)) if length == "mean" else 1))
    for index, sums in scores.items():
        chosen[index] = max(range(len(sums)), key=sums.__getitem__)
    return chosen


def _one_token_each(backbone: Backbone, example: Example) -> bool:
    """Return whether each option is the prompt, one token and the end of the turn."""
    prompt = backbone.encode(example, answer=False).input_ids
    length = len(prompt)
    for option in example.spellings:
        item = backbone.encode_option(example, option)
        labelled = _labelled(item)
        # What the template writes after the end of the turn (a line end) follows the labels.
        after = list(item.input_ids[length : length + 2])
        if item.input_ids[:length] != prompt or len(labelled) != 2 or labelled != after:
            return False
    return True


def _labelled(item: Encoded) -> list[int]:
    """Return the tokens of an answer and the end of its turn."""
    return [label for label in item.labels if label != IGNORE]


def log_likelihoods(backbone: Backbone, model: Any, items: Sequence[Encoded]) -> list[float]:
    """Return the sum of the log-probabilities of the labelled tokens of each item."""
    batch = backbone.collate(items)
    prepare(model, batch)
    width, length = batch.answer_width, batch.labels.shape[1]
    logits = backbone.logits(model, batch, batch.columns(length - width - 1, length - 1))
    labels = batch.labels[:, -width:]
    logs = logits.float().log_softmax(-1)
    picked = logs.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    sums: list[float] = picked.masked_fill(labels == IGNORE, 0.0).sum(dim=1).tolist()
    return sums


def _next_logits(backbone: Backbone, model: Any, batch: Batch) -> Tensor:
    prepare(model, batch)
    length = batch.input_ids.shape[1]
    return backbone.logits(model, batch, batch.columns(length - 1, length))[:, -1].float()
