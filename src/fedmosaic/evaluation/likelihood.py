"""Answer multiple-choice questions by the likelihood of their options."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.evaluation.batches import prepare, prompt_batches
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.chat import IGNORE, Encoded

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
        one_token = all(len(backbone.answer_ids(option)) == 1 for option in example.options)
        (single if one_token else several).append(index)
    # The prompt's next-token distribution ranks options of one token each. The end of the turn has
    # about the same likelihood after any of them.
    for part, batch in prompt_batches(backbone, [examples[i] for i in single], batch_size):
        logits = _next_logits(backbone, model, batch)
        for row, position in enumerate(part):
            options = [
                backbone.answer_ids(option)[0] for option in examples[single[position]].options
            ]
            chosen[single[position]] = int(logits[row, options].argmax())
    pairs = [(index, option) for index in several for option in examples[index].options]
    scores: dict[int, list[float]] = {index: [] for index in several}
    for start in range(0, len(pairs), batch_size):
        part_pairs = pairs[start : start + batch_size]
        items = [append_answer(backbone, examples[index], option) for index, option in part_pairs]
        for (index, option), value in zip(
            part_pairs, log_likelihoods(backbone, model, items), strict=True
        ):
            tokens = len(backbone.answer_ids(option)) + 1  # and the end of the turn
            scores[index].append(value / (tokens if length == "mean" else 1))
    for index, values in scores.items():
        chosen[index] = max(range(len(values)), key=values.__getitem__)
    return chosen


def append_answer(backbone: Backbone, example: Example, option: str) -> Encoded:
    """Encode the prompt of an example with an option as its answer; only the answer is labelled."""
    prompt = backbone.encode(example, answer=False)
    answer = array("i", [*backbone.answer_ids(option), backbone.tokenizer.eos_token_id])
    return Encoded(
        prompt.input_ids + answer,
        array("i", [IGNORE]) * len(prompt.input_ids) + answer,
        prompt.images,
    )


def log_likelihoods(backbone: Backbone, model: Any, items: Sequence[Encoded]) -> list[float]:
    """Return the sum of the log-probabilities of the labelled tokens of each item."""
    batch = backbone.collate(items)
    prepare(model, batch)
    width, length = batch.answer_width, batch.labels.shape[1]
    output = model(
        inputs_embeds=backbone.embed(batch),
        attention_mask=batch.attention_mask,
        logits_to_keep=batch.columns(length - width - 1, length - 1),
        use_cache=False,
    )
    labels = batch.labels[:, -width:]
    logs = output.logits.float().log_softmax(-1)
    picked = logs.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    sums: list[float] = picked.masked_fill(labels == IGNORE, 0.0).sum(dim=1).tolist()
    return sums


def _next_logits(backbone: Backbone, model: Any, batch: Batch) -> Tensor:
    prepare(model, batch)
    length = batch.input_ids.shape[1]
    output = model(
        inputs_embeds=backbone.embed(batch),
        attention_mask=batch.attention_mask,
        logits_to_keep=batch.columns(length - 1, length),
        use_cache=False,
    )
    logits: Tensor = output.logits[:, -1].float()
    return logits
