"""Map predictions on public examples from one model's tokens to another's.

Positions correspond by the text before them, tokens by the two vocabularies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.alignment.correspondence.positions import match_origins
from fedmosaic.alignment.correspondence.vocabulary import (
    NONE,
    map_vocabulary,
    token_texts,
    vocabulary_size,
)
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.training.distil import Predictions

CHUNK = 256


class TokenizedPublicSet:
    """Hold the public examples as a model reads them.

    Args:
        backbone: of the model.
        examples: the public ones.

    Attributes:
        vocabulary: number of the model's logits.
        names: identity of each example.
        labels: int64 [positions], the tokens to be predicted.
        example: int64 [positions], index of the example that each position belongs to.
        spaced: bool [positions], whether the label begins with a space.
        labelled: for each example bool [tokens], which of its tokens are labels. Image tokens,
            which are never labels, are left out.
        origins: for each example where its tokens come from; image tokens are left out.
    """

    def __init__(self, backbone: Backbone, examples: Sequence[Example]) -> None:
        self.backbone = backbone
        self.vocabulary = vocabulary_size(backbone)
        self.names = [example.id for example in examples]
        self.origins: list[Tensor] = []
        self.labelled: list[Tensor] = []
        labels: list[Tensor] = []
        for example in examples:
            origins, own = (
                backbone.token_origins(example),
                torch.tensor(backbone.encode(example).labels),
            )
            text = origins[:, 0] != TokenKind.IMAGE
            self.origins.append(origins[text])
            self.labelled.append(own[text] != IGNORE)
            labels.append(own[own != IGNORE])
        self.labels = torch.cat(labels)
        texts = dict(enumerate(token_texts(backbone.tokenizer)))
        self.spaced = torch.tensor(
            [(texts.get(label) or b"").startswith(b" ") for label in self.labels.tolist()]
        )
        self.example = torch.arange(len(examples)).repeat_interleave(
            torch.tensor([len(part) for part in labels])
        )


@dataclass(frozen=True)
class MappedPredictions:
    """Hold one model's predictions in another's positions and vocabulary.

    Attributes:
        predictions: a token may occur several times at a position.
        mapped: share of the predicted probability that has a counterpart in the other vocabulary.
    """

    predictions: Predictions
    mapped: float


class Bridge:
    """Map predictions from the positions and vocabulary of one model to those of another.

    Two positions correspond where the same text stands before them, so that both models predict how
    it goes on: the first token of each group of tokens that cover the same text, and the end of a
    turn. A token is mapped to its counterpart in the other vocabulary. The label, which is the same
    text on both sides, is mapped to the other's label. Models that read alike map to themselves.

    Args:
        source: the public examples as the predicting model reads them.
        target: the same as the other model reads them.

    Attributes:
        matched: share of the target's positions that have a counterpart.
    """

    def __init__(self, source: TokenizedPublicSet, target: TokenizedPublicSet) -> None:
        self.source, self.target = source, target
        table = _matched_positions(source, target)
        self.rows_from, self.rows_to = table[:, 0], table[:, 1]
        self.matched = len(table) / len(target.labels)
        self.lead = source.spaced[self.rows_from].int() - target.spaced[self.rows_to].int()
        self.vocabulary_maps = {
            lead: map_vocabulary(source.backbone, target.backbone, lead)
            for lead in self.lead.unique().tolist()
        }

    def map(self, predictions: Predictions) -> MappedPredictions:
        """Map predictions at all the source's positions to all the target's.

        Tokens without a counterpart count as impossible: the rest is divided by its sum. Positions
        without a counterpart, or with nothing that the other vocabulary can express, get
        probability 0 throughout. Token ids that the source does not have and numbers that are no
        probabilities are ignored, because they may have come from anywhere.
        """
        p = predictions.probabilities[self.rows_from].clamp_min(0)
        tokens = predictions.tokens[self.rows_from].long()
        p = p / p.sum(-1, keepdim=True).clamp_min(1)
        known = (tokens >= 0) & (tokens < self.source.vocabulary)
        mapped = self._map_tokens(tokens)
        possible = torch.where(known & (mapped >= 0), p, 0.0)
        lost = (p - possible).sum(-1, keepdim=True)
        probabilities = p.new_zeros(len(self.target.labels), p.shape[1])
        probabilities[self.rows_to] = torch.where(
            possible > 0, possible / (1 - lost).clamp_min(1e-12), 0.0
        )
        ids = predictions.tokens.new_zeros(probabilities.shape)
        ids[self.rows_to] = mapped.clamp_min(0).to(ids.dtype)
        share = float(possible.sum() / p.sum().clamp_min(1e-12))
        return MappedPredictions(Predictions(probabilities, ids), share)

    def _map_tokens(self, tokens: Tensor) -> Tensor:
        """Return the counterparts of tokens [matched positions, k]; ``NONE`` for no counterpart."""
        mapped = torch.full_like(tokens, NONE)
        for lead, table in self.vocabulary_maps.items():
            rows = self.lead == lead
            mapped[rows] = table[tokens[rows].clamp(0, self.source.vocabulary - 1)]
        is_label = tokens == self.source.labels[self.rows_from, None]
        return torch.where(is_label, self.target.labels[self.rows_to, None], mapped)


class Bridges:
    """Hold all bridges of a federation, each built when it is first needed."""

    def __init__(self) -> None:
        self._sets: dict[str, TokenizedPublicSet] = {}
        self._bridges: dict[tuple[str, str], Bridge] = {}

    def between(self, server: Server, source: str, target: str) -> Bridge:
        """Return the bridge from the architecture ``source`` to ``target``."""
        for name in {source, target} - set(self._sets):
            self._sets[name] = TokenizedPublicSet(server.backbone(name), server.public())
        if (source, target) not in self._bridges:
            self._bridges[source, target] = Bridge(self._sets[source], self._sets[target])
        return self._bridges[source, target]


def blend(parts: Sequence[Predictions], vocabulary: int, top_k: int) -> Predictions:
    """Return the mean of several predictions by its ``top_k`` largest probabilities.

    The mean at a position is over the parts that have a prediction there.

    Args:
        parts: at the same positions and in the same vocabulary; tokens may repeat.
        vocabulary: its size.
        top_k: tokens of each prediction of the result.
    """
    chunks: list[Predictions] = []
    for rows in torch.arange(len(parts[0].tokens)).split(CHUNK):
        chunk = [predictions.at(rows) for predictions in parts]
        total = torch.zeros(len(rows), vocabulary)
        for part in chunk:
            total.scatter_add_(1, part.tokens.long(), part.probabilities)
        count = torch.stack([part.probabilities.sum(-1) > 0 for part in chunk]).sum(0)
        largest = (total / count.clamp_min(1)[:, None]).topk(min(top_k, vocabulary), -1)
        chunks.append(Predictions(largest.values, largest.indices.int()))
    return Predictions.concatenate(chunks)


def _matched_positions(source: TokenizedPublicSet, target: TokenizedPublicSet) -> Tensor:
    """Return pairs of corresponding positions, int64 [pairs, 2]: source, target."""
    pairs = [(NONE, NONE)]
    starts = [0, 0]
    for index, name in enumerate(source.names):
        matching = match_origins(source.origins[index], target.origins[index], name)
        groups = (
            matching.first[source.labelled[index]],
            matching.second[target.labelled[index]],
        )
        ours, theirs = (
            _first_of_group(side, start) for side, start in zip(groups, starts, strict=True)
        )
        pairs += [(ours[group], row) for group, row in theirs.items() if group in ours]
        starts = [start + len(side) for start, side in zip(starts, groups, strict=True)]
    return torch.tensor(pairs)[1:]


def _first_of_group(groups: Tensor, start: int) -> dict[int, int]:
    """Return the position of each group's first token; ``start`` positions come before them."""
    first: dict[int, int] = {}
    for index, group in enumerate(groups.tolist()):
        if group != NONE:
            first.setdefault(group, start + index)
    return first
