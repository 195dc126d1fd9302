"""A model on test examples: choices by the likelihood of the options or by generation, open answers by generation."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.evaluation.answers import lists_letters, normalise, read_choice
from fedmosaic.evaluation.metrics import rouge_l, token_f1
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.chat import IGNORE, Encoded

Method = Literal["likelihood", "generation"]
Metric = Literal["accuracy", "f1", "rouge_l"]
Length = Literal["sum", "mean"]


@dataclass(frozen=True)
class Score:
    """The score of a test set.

    Attributes:
        score: mean of ``values``. values: one in [0, 1] for each example, in order.
        unreadable: generated choices that named no option; they count 0.
    """

    score: float
    values: tuple[float, ...]
    unreadable: int = 0

    @property
    def n(self) -> int:
        return len(self.values)


@torch.no_grad()
def evaluate(
    backbone: Backbone,
    model: Any,
    examples: Sequence[Example],
    *,
    method: Method = "likelihood",
    metric: Metric = "accuracy",
    batch_size: int = 64,
    max_new_tokens: int = 16,
    length: Length = "sum",
) -> Score:
    """Score a model on examples.

    Args:
        backbone: encodes the examples. model: the bare model, or it with adapters. One that has a method ``look_at(batch)`` is
            shown every batch of prompts (followed by answers to be scored, where they are) before it is run on it.
        method: for choices. ``likelihood``: the option with the largest sum of log-probabilities of its tokens and the
            end of the turn, given the prompt; where all options of a question are one token, of that token alone.
            ``generation``: greedy decoding, read by :func:`read_choice`.
        metric: ``accuracy`` for choices; ``f1`` or ``rouge_l`` of the generated text for open answers.
        length: ``mean`` divides an option's sum by its number of tokens, so that long options are not disfavoured.

    Returns:
        the score; the same for every batch size up to rounding in the last bits of the logits.

    Raises:
        DataError: accuracy is asked for where an example has no options.
    """
    if metric == "accuracy":
        for example in examples:
            if not example.options:
                raise DataError(
                    f"example {example.id!r}: accuracy needs options; use f1 or rouge_l for open answers"
                )
    if metric == "accuracy" and method == "likelihood":
        chosen = _by_likelihood(backbone, model, examples, batch_size, length)
        values = [
            float(_is_answer(example, index))
            for example, index in zip(examples, chosen, strict=True)
        ]
        return _score(values)
    texts = generate(
        backbone, model, examples, batch_size=batch_size, max_new_tokens=max_new_tokens
    )
    if metric == "accuracy":
        read = [
            read_choice(
                text, example.options, lists_letters(example.question, len(example.options))
            )
            for text, example in zip(texts, examples, strict=True)
        ]
        values = [
            float(index is not None and _is_answer(e, index))
            for e, index in zip(examples, read, strict=True)
        ]
        return _score(values, sum(index is None for index in read))
    measure = token_f1 if metric == "f1" else rouge_l
    return _score(
        [measure(text, example.answer) for text, example in zip(texts, examples, strict=True)]
    )


@torch.no_grad()
def generate(
    backbone: Backbone,
    model: Any,
    examples: Sequence[Example],
    *,
    batch_size: int = 64,
    max_new_tokens: int = 16,
) -> list[str]:
    """Greedy answers. Every sample ends by its own end-of-turn token; one that goes on never holds up what another said."""
    texts = [""] * len(examples)
    for indices, batch in _batches(backbone, examples, batch_size):
        tokens = _greedy(backbone, model, batch, max_new_tokens)
        for index, row in zip(indices, tokens, strict=True):
            texts[index] = backbone.tokenizer.decode(row, skip_special_tokens=True).strip()
    return texts


def _greedy(backbone: Backbone, model: Any, batch: Batch, limit: int) -> list[list[int]]:
    _show(model, batch)
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
    """The tokenizer's end-of-turn token and any further ones that the model's own settings name (Llama 3, Qwen)."""
    own = getattr(getattr(backbone.model, "generation_config", None), "eos_token_id", None)
    listed = own if isinstance(own, list) else [own] if own is not None else []
    return sorted({backbone.tokenizer.eos_token_id, *listed})


def _by_likelihood(
    backbone: Backbone, model: Any, examples: Sequence[Example], batch_size: int, length: Length
) -> list[int]:
    """Index of the likeliest option of each example."""
    chosen = [0] * len(examples)
    single: list[int] = []
    several: list[int] = []
    for index, example in enumerate(examples):
        one_token = all(len(backbone.answer_ids(option)) == 1 for option in example.options)
        (single if one_token else several).append(index)
    # One token each: the prompt's next-token distribution ranks them (the end of the turn follows any of them alike).
    for part, batch in _batches(backbone, [examples[i] for i in single], batch_size):
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
        items = [_with_answer(backbone, examples[index], option) for index, option in part_pairs]
        for (index, option), value in zip(
            part_pairs, _log_likelihoods(backbone, model, items), strict=True
        ):
            scores[index].append(
                value / (_token_count(backbone, option) if length == "mean" else 1)
            )
    for index, values in scores.items():
        chosen[index] = max(range(len(values)), key=values.__getitem__)
    return chosen


def _token_count(backbone: Backbone, option: str) -> int:
    return len(backbone.answer_ids(option)) + 1


def _show(model: Any, batch: Batch) -> None:
    look_at = getattr(model, "look_at", None)
    if look_at is not None:
        look_at(batch)


def _next_logits(backbone: Backbone, model: Any, batch: Batch) -> Tensor:
    _show(model, batch)
    length = batch.input_ids.shape[1]
    output = model(
        inputs_embeds=backbone.embed(batch),
        attention_mask=batch.attention_mask,
        logits_to_keep=batch.columns(length - 1, length),
        use_cache=False,
    )
    logits: Tensor = output.logits[:, -1].float()
    return logits


def _with_answer(backbone: Backbone, example: Example, option: str) -> Encoded:
    prompt = backbone.encode(example, answer=False)
    answer = array("i", [*backbone.answer_ids(option), backbone.tokenizer.eos_token_id])
    return Encoded(
        prompt.input_ids + answer,
        array("i", [IGNORE]) * len(prompt.input_ids) + answer,
        prompt.images,
    )


def _log_likelihoods(backbone: Backbone, model: Any, items: Sequence[Encoded]) -> list[float]:
    batch = backbone.collate(items)
    _show(model, batch)
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


def _batches(
    backbone: Backbone, examples: Sequence[Example], size: int
) -> Iterator[tuple[list[int], Batch]]:
    """Prompts of similar length together; yields their indices with each batch."""
    encoded = [backbone.encode(example, answer=False) for example in examples]
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].input_ids))
    for start in range(0, len(order), size):
        part = order[start : start + size]
        yield part, backbone.collate([encoded[index] for index in part])


def _is_answer(example: Example, index: int) -> bool:
    return normalise(example.options[index]) == normalise(example.answer)


def _score(values: Sequence[float], unreadable: int = 0) -> Score:
    return Score(math.fsum(values) / len(values) if values else 0.0, tuple(values), unreadable)
