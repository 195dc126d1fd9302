"""Score the options of multiple-choice questions, each sequence by itself."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.evaluation.batches import SortedBatches, prepare
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE, Encoded

Length = Literal["sum", "mean"]

_first_tokens: weakref.WeakKeyDictionary[
    Backbone, weakref.WeakKeyDictionary[Example, list[int] | None]
] = weakref.WeakKeyDictionary()


class PlainQuestions:
    """Hold multiple-choice questions in batches of sequences for one architecture.

    Args:
        backbone: Encodes the questions.
        examples: The questions.
        batch_size: Most sequences in a batch; None: any number of prompts, 64 of options.
        length: As of :func:`.evaluate`.
        batch_tokens: Most tokens in a batch of prompts; None: not limited.
        memory: Bytes of batches that are kept for the next model.
    """

    def __init__(
        self,
        backbone: Backbone,
        examples: Sequence[Example],
        batch_size: int | None,
        length: Length = "sum",
        batch_tokens: int | None = None,
        memory: int = 0,
    ) -> None:
        self.backbone = backbone
        self.examples = examples
        self.batch_size = batch_size or 64
        self.length = length
        found = {index: first_tokens(backbone, example) for index, example in enumerate(examples)}
        options = {index: tokens for index, tokens in found.items() if tokens is not None}
        self._several = [index for index in found if index not in options]
        self._single = single = list(options)
        self._options = list(options.values())
        prompts = [backbone.encode(examples[index], answer=False) for index in single]
        self._prompts = SortedBatches(backbone, prompts, batch_size, batch_tokens, memory)

    @torch.no_grad()
    def scores(self, model: Any) -> list[list[float]]:
        """Return the score of each option of each question; see :class:`.Questions`."""
        scores: list[list[float]] = [[] for _ in self.examples]
        # The prompt's next-token distribution ranks options of one token each. The end of the turn
        # has about the same likelihood after any of them.
        for part, batch in self._prompts:
            logits = _next_logits(self.backbone, model, batch)
            options = [self._options[place] for place in part]
            rows = [row for row, tokens in enumerate(options) for _ in tokens]
            tokens = [token for tokens in options for token in tokens]
            found = iter(logits[rows, tokens].tolist())
            for place, own in zip(part, options, strict=True):
                scores[self._single[place]] = [next(found) for _ in own]
        self._score_several(model, scores)
        return scores

    def _score_several(self, model: Any, scores: list[list[float]]) -> None:
        """Score the options of questions of which some option is several tokens."""
        examples = self.examples
        pairs = [(index, option) for index in self._several for option in examples[index].spellings]
        for start in range(0, len(pairs), self.batch_size):
            part = pairs[start : start + self.batch_size]
            items = [self.backbone.encode_option(examples[i], option) for i, option in part]
            values = log_likelihoods(self.backbone, model, items)
            for (index, _), item, value in zip(part, items, values, strict=True):
                scores[index].append(value / (len(labelled(item)) if self.length == "mean" else 1))


def one_token_each(backbone: Backbone, example: Example) -> bool:
    """Return whether each option is the prompt, one token and the end of the turn."""
    return first_tokens(backbone, example) is not None


def first_tokens(backbone: Backbone, example: Example) -> list[int] | None:
    """Return the token of each option, found once; None unless each is :func:`one_token_each`."""
    known = _first_tokens.setdefault(backbone, weakref.WeakKeyDictionary())
    if example not in known:
        known[example] = _single_tokens(backbone, example)
    return known[example]


def _single_tokens(backbone: Backbone, example: Example) -> list[int] | None:
    prompt = backbone.encode(example, answer=False).input_ids
    length = len(prompt)
    found = []
    for option in example.spellings:
        item = backbone.encode_option(example, option)
        tokens = labelled(item)
        # What the template writes after the end of the turn (a line end) follows the labels.
        after = item.input_ids[length : length + 2].tolist()
        if len(tokens) != 2 or tokens != after or item.input_ids[:length] != prompt:
            return None
        found.append(tokens[0])
    return found


def labelled(item: Encoded) -> list[int]:
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
