"""From what one model says of the public examples to what that means for another: positions by text, tokens by vocabulary."""

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
from fedmosaic.models.chat import IGNORE
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.training.distil import Predictions

CHUNK = 256


class Script:
    """How a model reads the public examples.

    Attributes:
        labels: int64 [positions], the tokens to be predicted. example: int64 [positions], the example each belongs to.
        spaced: bool [positions], whether the label begins with a space.
        said: for each example bool [tokens], which of its tokens are labels. origins: where its tokens come from. Both without
            image tokens, which are never labels. vocabulary: its number of logits.
    """

    def __init__(self, backbone: Backbone, examples: Sequence[Example]) -> None:
        self.backbone = backbone
        self.vocabulary = vocabulary_size(backbone)
        self.names = [example.id for example in examples]
        self.origins: list[Tensor] = []
        self.said: list[Tensor] = []
        labels: list[Tensor] = []
        for example in examples:
            origins, own = (
                backbone.token_origins(example),
                torch.tensor(backbone.encode(example).labels),
            )
            text = origins[:, 0] != TokenKind.IMAGE
            self.origins.append(origins[text])
            self.said.append(own[text] != IGNORE)
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
class Carried:
    """One model's predictions in another's positions and vocabulary; a token may stand several times at a position.

    Attributes:
        mapped: the share of the probability told that has a counterpart in the other vocabulary.
    """

    predictions: Predictions
    mapped: float


class Bridge:
    """Carries predictions from the positions and vocabulary of one model to those of another.

    Two positions answer to one another where the same text stands before them, so that both models predict how it goes on: the
    first token of each group of tokens that cover the same text, and the end of a turn. A token goes to its counterpart in the
    other vocabulary; the label, which says the same text on both sides, to the other's label. Models that read alike are their
    own counterparts throughout.

    Attributes:
        matched: the share of the target's positions that have a counterpart.
    """

    def __init__(self, source: Script, target: Script) -> None:
        self.source, self.target = source, target
        pairs = [(NONE, NONE)]
        starts = [0, 0]
        for index, name in enumerate(source.names):
            matching = match_origins(source.origins[index], target.origins[index], name)
            here, there = matching.first[source.said[index]], matching.second[target.said[index]]
            first = [
                _first_of_group(side, start)
                for side, start in zip((here, there), starts, strict=True)
            ]
            pairs += [
                (first[0][group], row) for group, row in first[1].items() if group in first[0]
            ]
            starts = [starts[0] + len(here), starts[1] + len(there)]
        table = torch.tensor(pairs)[1:]
        self.rows_from, self.rows_to = table[:, 0], table[:, 1]
        self.matched = len(table) / len(target.labels)
        self.lead = source.spaced[self.rows_from].int() - target.spaced[self.rows_to].int()
        self.maps = {
            lead: map_vocabulary(source.backbone, target.backbone, lead)
            for lead in self.lead.unique().tolist()
        }

    def carry(self, said: Predictions) -> Carried:
        """Predictions at all the source's positions as such at all the target's.

        What has no counterpart is taken for impossible: the rest is divided by its sum. Positions without a counterpart, or of
        which nothing can be said in the other vocabulary, get probability 0 throughout. Token ids that the source does not
        have, and probabilities that are none, count as nothing said: they may have come from anywhere.
        """
        p, tokens = (
            said.probabilities[self.rows_from].clamp_min(0),
            said.tokens[self.rows_from].long(),
        )
        p = p / p.sum(-1, keepdim=True).clamp_min(1)
        known = (tokens >= 0) & (tokens < self.source.vocabulary)
        mapped = torch.full_like(tokens, NONE)
        for lead, table in self.maps.items():
            mapped[self.lead == lead] = table[
                tokens[self.lead == lead].clamp(0, self.source.vocabulary - 1)
            ]
        is_label = tokens == self.source.labels[self.rows_from, None]
        mapped = torch.where(is_label, self.target.labels[self.rows_to, None], mapped)
        kept = torch.where(known & (mapped >= 0), p, 0.0)
        lost = (p - kept).sum(-1, keepdim=True)
        probabilities = p.new_zeros(len(self.target.labels), p.shape[1])
        probabilities[self.rows_to] = torch.where(kept > 0, kept / (1 - lost).clamp_min(1e-12), 0.0)
        carried = said.tokens.new_zeros(probabilities.shape)
        carried[self.rows_to] = mapped.clamp_min(0).to(carried.dtype)
        return Carried(
            Predictions(probabilities, carried), float(kept.sum() / p.sum().clamp_min(1e-12))
        )


class Bridges:
    """All bridges of a federation, each built when it is first needed."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self._bridges: dict[tuple[str, str], Bridge] = {}

    def between(self, server: Server, source: str, target: str) -> Bridge:
        """The bridge from the architecture ``source`` to ``target``."""
        for name in {source, target} - set(self._scripts):
            self._scripts[name] = Script(server.backbone(name), server.public())
        if (source, target) not in self._bridges:
            self._bridges[source, target] = Bridge(self._scripts[source], self._scripts[target])
        return self._bridges[source, target]


def blend(carried: Sequence[Predictions], vocabulary: int, top_k: int) -> Predictions:
    """The mean of several predictions at the same positions, over those that say anything there, by its ``top_k`` largest.

    Args:
        carried: at the same positions and in the same vocabulary; tokens may repeat. vocabulary: its size.
    """
    told: list[Predictions] = []
    positions = len(carried[0].tokens)
    for rows in torch.arange(positions).split(CHUNK):
        parts = [predictions.at(rows) for predictions in carried]
        mean = torch.zeros(len(rows), vocabulary)
        for part in parts:
            mean.scatter_add_(1, part.tokens.long(), part.probabilities)
        heard = torch.stack([part.probabilities.sum(-1) > 0 for part in parts]).sum(0)
        largest = (mean / heard.clamp_min(1)[:, None]).topk(min(top_k, vocabulary), -1)
        told.append(Predictions(largest.values, largest.indices.int()))
    return Predictions(
        torch.cat([t.probabilities for t in told]), torch.cat([t.tokens for t in told])
    )


def _first_of_group(groups: Tensor, start: int) -> dict[int, int]:
    """The position of each group's first token; ``start`` is the number of positions before them."""
    first: dict[int, int] = {}
    for index, group in enumerate(groups.tolist()):
        if group != NONE:
            first.setdefault(group, start + index)
    return first
