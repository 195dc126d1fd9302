"""Distil on public examples: compute a model's predictions, and bring another model nearer to them.

A *position* is a place where a label is predicted, in reading order: all labelled tokens of the
first example, then those of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE
from fedmosaic.training.loss import answer_logits

Predictor = Callable[[Batch], tuple[Tensor, Tensor]]
"""Function from a batch to logits [positions, vocabulary] and labels [positions]."""


@dataclass(frozen=True)
class Predictions:
    """Hold next-token distributions at some positions, each by its likeliest tokens.

    They are probabilities, not logits: no further softmax is applied to them.

    Attributes:
        probabilities: float32 [positions, k]; what they lack to 1 is the probability of all other
            tokens together. A position whose probabilities are all 0 has no prediction.
        tokens: int32 [positions, k], distinct within a position.
    """

    probabilities: Tensor
    tokens: Tensor

    def at(self, rows: Tensor) -> Predictions:
        """Return the predictions at some of the positions (int64 or bool)."""
        return Predictions(self.probabilities[rows], self.tokens[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Return the positions of all parts, one after the other."""
        return cls(
            torch.cat([part.probabilities for part in parts]),
            torch.cat([part.tokens for part in parts]),
        )


def label_logits(model: Any, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the logits that predict a batch's labels, and the labels.

    Returns:
        logits [positions, vocabulary] in float32; labels [positions].
    """
    logits, labels = answer_logits(model, backbone, batch)
    labelled = labels != IGNORE
    return logits[labelled].float(), labels[labelled]


def soften(logits: Tensor, temperature: float, top_k: int) -> Predictions:
    """Return the ``top_k`` largest probabilities of softmax(z/T), largest first.

    All of them where the vocabulary has no more.
    """
    found = (logits.float() / temperature).softmax(-1).topk(min(top_k, logits.shape[-1]), -1)
    return Predictions(found.values, found.indices.int())


@torch.no_grad()
def predict(
    predictor: Predictor,
    backbone: Backbone,
    examples: Sequence[Example],
    *,
    temperature: float = 1.0,
    top_k: int = 64,
    batch_size: int = 16,
) -> tuple[Predictions, Tensor]:
    """Compute the predictions of a model in evaluation mode.

    Args:
        predictor: returns logits and labels of a batch.
        backbone: encodes the examples.
        examples: with answers.
        temperature: T of the softmax.
        top_k: tokens of each prediction.
        batch_size: examples a forward pass.

    Returns:
        the predictions at all positions, in main memory, and −log p(answer) of each example,
        float32 [examples]: a sum over its tokens, so that models which cut the answer differently
        can be compared.
    """
    predictions: list[Predictions] = []
    losses: list[Tensor] = []
    for start in range(0, len(examples), batch_size):
        encoded = [backbone.encode(example) for example in examples[start : start + batch_size]]
        logits, labels = predictor(backbone.collate(encoded))
        nll = functional.cross_entropy(logits, labels, reduction="none").cpu()
        losses += [part.sum() for part in nll.split([_positions(item.labels) for item in encoded])]
        part = soften(logits, temperature, top_k)
        predictions.append(Predictions(part.probabilities.cpu(), part.tokens.cpu()))
    return Predictions.concatenate(predictions), torch.stack(losses)


def distillation_loss(logits: Tensor, targets: Predictions, temperature: float = 1.0) -> Tensor:
    """Return T² · mean over positions of KL(p ‖ softmax(z/T)).

    All tokens that p does not name count as one outcome. With the whole vocabulary in p it is the
    ordinary distillation loss. Leaving the rest out instead would teach the student that it cannot
    occur, which at high temperatures is most of the distribution.

    Args:
        logits: the student's z, [positions, vocabulary].
        targets: p at the same positions, softened by the same T.
        temperature: T.

    Returns:
        a scalar, averaged over the positions that have a prediction; 0 where none has.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    p = targets.probabilities.to(logits.device)
    tokens = targets.tokens.to(logits.device, torch.int64)
    log_q = (logits.float() / temperature).log_softmax(-1)
    named = torch.zeros_like(log_q, dtype=torch.bool).scatter_(-1, tokens, p > 0)
    # A finite floor keeps the gradient of an empty rest at 0 rather than NaN.
    log_q_rest = log_q.masked_fill(named, torch.finfo(log_q.dtype).min / 2).logsumexp(-1)
    rest = torch.where(named.all(-1), 0.0, (1 - p.sum(-1)).clamp_min(0))
    entropy = torch.special.entr(p).sum(-1) + torch.special.entr(rest)
    cross = -(p * log_q.gather(-1, tokens)).sum(-1) - rest * log_q_rest
    predicted = p.sum(-1) > 0
    divergence = torch.where(predicted, cross - entropy, 0.0)
    return temperature**2 * divergence.sum() / predicted.sum().clamp_min(1)


class PublicBatches:
    """Draw batches of the public examples, each example once before any comes again.

    Args:
        backbone: encodes the examples.
        examples: the public ones.
        size: examples a batch.
        generator: draws their order.

    Attributes:
        rows: int64, the positions of the last batch among those of all examples.
        counts: int64 [examples], number of positions of each example.
    """

    def __init__(
        self, backbone: Backbone, examples: Sequence[Example], size: int, generator: torch.Generator
    ) -> None:
        self.examples = examples
        self.size = min(size, len(examples))
        self.generator = generator
        self.rows = torch.empty(0, dtype=torch.int64)
        self.counts = torch.tensor(
            [_positions(backbone.encode(example).labels) for example in examples]
        )
        self._rows = torch.arange(int(self.counts.sum())).split(self.counts.tolist())
        self._waiting: list[int] = []

    @property
    def steps(self) -> int:
        """Return the number of batches in one pass."""
        return -(-len(self.examples) // self.size)

    def draw(self) -> list[Example]:
        """Return the next batch."""
        while len(self._waiting) < self.size:
            self._waiting += torch.randperm(len(self.examples), generator=self.generator).tolist()
        chosen, self._waiting = self._waiting[: self.size], self._waiting[self.size :]
        self.rows = torch.cat([self._rows[index] for index in chosen])
        return [self.examples[index] for index in chosen]


def _positions(labels: Sequence[int]) -> int:
    return sum(label != IGNORE for label in labels)
