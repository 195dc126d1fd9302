"""Score the options of multiple-choice questions, computing once what sequences share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.evaluation.plain_questions import Length, first_tokens, one_token_each
from fedmosaic.evaluation.tree_batches import TreeBatch, TreeBatches, logits_at
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE, Encoded
from fedmosaic.models.fused_inputs import asked_at

WORTHWHILE = 0.8
"""Share of the tokens that trees may have to be used: a token of a tree costs a little more."""


@dataclass(frozen=True)
class Asked:
    """Hold a sequence and the tokens that are scored after some of its places.

    Attributes:
        item: The sequence; tokens after the last place that is asked for are not computed.
        tokens: Place in the sequence, and token that is scored as the next one.
    """

    item: Encoded
    tokens: tuple[tuple[int, int], ...]

    @classmethod
    def labelled(cls, item: Encoded) -> Asked:
        """Return a sequence with its labelled tokens, each after the tokens before it."""
        places = enumerate(item.labels)
        return cls(item, tuple((place - 1, label) for place, label in places if label != IGNORE))

    def computed(self) -> Encoded:
        """Return the sequence up to the last place that is asked for."""
        length = self.tokens[-1][0] + 1
        types = {name: values[:length] for name, values in self.item.by_token.items()}
        ids, labels = self.item.input_ids[:length], self.item.labels[:length]
        return Encoded(ids, labels, self.item.units, types, self.item.by_image)


class SharedTokens:
    """Score tokens after sequences, in batches of trees (:mod:`fedmosaic.evaluation.tree_batches`).

    Args:
        backbone: The architecture of the models.
        asked: Sequences and tokens.
        normalised: Scores are log-probabilities; False: logits, which is cheaper.
        tokens: About the most tokens in a batch.
        memory: Bytes of batches that are kept for the next model.

    Attributes:
        size: Tokens of all batches with padding.
    """

    def __init__(
        self,
        backbone: Backbone,
        asked: Sequence[Asked],
        normalised: bool,
        tokens: int,
        memory: int = 0,
    ) -> None:
        self.asked = asked
        self.normalised = normalised
        self._device = backbone.device
        self._batches = TreeBatches(backbone, [one.computed() for one in asked], tokens, memory)
        self.size = self._batches.size
        every = sorted({token for one in asked for _, token in one.tokens})
        self._columns = {token: column for column, token in enumerate(every)}

    @torch.no_grad()
    def scores(self, model: Any) -> list[list[float]]:
        """Return the score of each token of each sequence."""
        found: list[list[float]] = [[] for _ in self.asked]
        for batch in self._batches:
            for index, values in zip(batch.places, self._batch_scores(model, batch), strict=True):
                found[index] = values
        return found

    def _batch_scores(self, model: Any, batch: TreeBatch) -> list[list[float]]:
        """Return the scores of each sequence of a batch."""
        pairs = [
            [(int(path[place]), token) for place, token in self.asked[index].tokens]
            for index, path in batch.places.items()
        ]
        flat = [pair for own in pairs for pair in own]
        places, rows = torch.tensor([place for place, _ in flat]).unique(return_inverse=True)
        tokens = None if self.normalised else self._tensor(list(self._columns))
        places = places.to(self._device)
        with logits_at(model.get_output_embeddings(), places, tokens), asked_at(flat=places):
            logits = model(**batch.batch.inputs, use_cache=False).logits[0].float()
        columns = [token if tokens is None else self._columns[token] for _, token in flat]
        rows = rows.to(self._device)
        values = logits[rows, self._tensor(columns)]
        if self.normalised:
            values = values - logits.logsumexp(-1)[rows]
        listed = iter(values.tolist())
        return [[next(listed) for _ in own] for own in pairs]

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=self._device)


class SharedQuestions:
    """Hold multiple-choice questions as trees of tokens for one architecture.

    Args:
        backbone: Encodes the questions.
        examples: The questions, either all with options of one token each or none.
        batch_size: Most sequences of the greatest length in a batch; None: 64 unless
            ``batch_tokens`` limits it.
        length: As of :func:`.evaluate`.
        batch_tokens: About the most tokens in a batch; None: not limited.
        memory: Bytes of batches that are kept for the next model.

    Attributes:
        saves: Whether the trees have clearly fewer tokens than the sequences.
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
        self.length = length
        self.single = one_token_each(backbone, examples[0])
        self._counts = [1 if self.single else len(example.spellings) for example in examples]
        asked = [one for example in examples for one in self._asked(backbone, example)]
        lengths = [len(one.item.input_ids) for one in asked]
        if batch_size is None and batch_tokens is not None:
            limit = batch_tokens
        else:
            limit = (batch_size or 64) * max(lengths)
            limit = limit if batch_tokens is None else min(limit, batch_tokens)
        self._trees = SharedTokens(backbone, asked, not self.single, limit, memory)
        self.saves = self._trees.size < WORTHWHILE * sum(lengths)

    def _asked(self, backbone: Backbone, example: Example) -> list[Asked]:
        """Return the prompt with the options' tokens, or the prompt with each option."""
        if not self.single:
            options = (backbone.encode_option(example, option) for option in example.spellings)
            return [Asked.labelled(item) for item in options]
        prompt = backbone.encode(example, answer=False)
        last, tokens = len(prompt.input_ids) - 1, first_tokens(backbone, example) or ()
        return [Asked(prompt, tuple((last, token) for token in tokens))]

    def scores(self, model: Any) -> list[list[float]]:
        """Return the score of each option of each question; see :class:`.Questions`."""
        found = iter(self._trees.scores(model))
        if self.single:
            return list(found)
        return [[self._score(next(found)) for _ in range(count)] for count in self._counts]

    def _score(self, logs: Sequence[float]) -> float:
        return sum(logs) / (len(logs) if self.length == "mean" else 1)
