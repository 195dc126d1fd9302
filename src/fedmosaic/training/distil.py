"""Distillation on public examples: what a model says of them, and the loss that brings another model nearer to that.

A *position* is a place where a label is predicted, in reading order: all labelled tokens of the first example, then of the next.
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
from fedmosaic.models.chat import IGNORE
from fedmosaic.training.loss import answer_logits

Speaker = Callable[[Batch], tuple[Tensor, Tensor]]
"""From a batch to logits [positions, vocabulary] and labels [positions], as :func:`spoken` gives them."""


@dataclass(frozen=True)
class Predictions:
    """Next-token distributions at some positions, each told by its likeliest tokens.

    Probabilities they are, not logits: nobody who receives them applies another softmax.

    Attributes:
        probabilities: float32 [positions, k]; what they lack to 1 is the probability of all other tokens together. A position
            whose probabilities are all 0 tells nothing.
        tokens: int32 [positions, k], distinct within a position.
    """

    probabilities: Tensor
    tokens: Tensor

    def at(self, rows: Tensor) -> Predictions:
        """The predictions at some of the positions (int64 or bool)."""
        return Predictions(self.probabilities[rows], self.tokens[rows])


def spoken(model: Any, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [positions, vocabulary] in float32 that predict the labels [positions] of a batch."""
    logits, labels = answer_logits(model, backbone, batch)
    said = labels != IGNORE
    return logits[said].float(), labels[said]


def soften(logits: Tensor, temperature: float, top_k: int) -> Predictions:
    """The ``top_k`` largest of softmax(z/T), largest first; all of them where the vocabulary has no more."""
    found = (logits.float() / temperature).softmax(-1).topk(min(top_k, logits.shape[-1]), -1)
    return Predictions(found.values, found.indices.int())


@torch.no_grad()
def predict(
    speaker: Speaker,
    backbone: Backbone,
    examples: Sequence[Example],
    *,
    temperature: float = 1.0,
    top_k: int = 64,
    batch_size: int = 16,
) -> tuple[Predictions, Tensor]:
    """What a model (in evaluation mode) says of examples.

    Returns:
        its predictions at all positions, in main memory, and −log p(answer) of each example, float32 [examples]: a sum over its
        tokens, so that models which cut the answer differently can be compared.
    """
    told: list[Predictions] = []
    losses: list[Tensor] = []
    for start in range(0, len(examples), batch_size):
        encoded = [backbone.encode(example) for example in examples[start : start + batch_size]]
        logits, labels = speaker(backbone.collate(encoded))
        nll = functional.cross_entropy(logits, labels, reduction="none").cpu()
        losses += [part.sum() for part in nll.split([_positions(item.labels) for item in encoded])]
        part = soften(logits, temperature, top_k)
        told.append(Predictions(part.probabilities.cpu(), part.tokens.cpu()))
    whole = Predictions(
        torch.cat([t.probabilities for t in told]), torch.cat([t.tokens for t in told])
    )
    return whole, torch.stack(losses)


def distillation_loss(logits: Tensor, taught: Predictions, temperature: float = 1.0) -> Tensor:
    """T² · mean over taught positions of KL(p ‖ softmax(z/T)), where all tokens that p does not name count as one outcome.

    With the whole vocabulary in p it is the ordinary distillation loss. Leaving the rest out instead would teach the student
    that it cannot occur, which at high temperatures is most of the distribution.

    Args:
        logits: the student's z, [positions, vocabulary]. taught: p at the same positions, softened by the same T.

    Returns:
        a scalar; 0 where no position is taught anything.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    p, tokens = taught.probabilities.to(logits.device), taught.tokens.to(logits.device, torch.int64)
    log_q = (logits.float() / temperature).log_softmax(-1)
    named = torch.zeros_like(log_q, dtype=torch.bool).scatter_(-1, tokens, p > 0)
    # A finite floor keeps the gradient of an empty rest at 0 rather than NaN.
    log_q_rest = log_q.masked_fill(named, torch.finfo(log_q.dtype).min / 2).logsumexp(-1)
    rest = torch.where(named.all(-1), 0.0, (1 - p.sum(-1)).clamp_min(0))
    entropy = torch.special.entr(p).sum(-1) + torch.special.entr(rest)
    cross = -(p * log_q.gather(-1, tokens)).sum(-1) - rest * log_q_rest
    is_taught = p.sum(-1) > 0
    divergence = torch.where(is_taught, cross - entropy, 0.0)
    return temperature**2 * divergence.sum() / is_taught.sum().clamp_min(1)


class PublicBatches:
    """Batches of the public examples, each example once before any comes again.

    Args:
        generator: draws their order.

    Attributes:
        rows: int64, the positions of the last batch among those of all examples. counts: int64 [examples], positions of each.
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
        """Batches in one pass."""
        return -(-len(self.examples) // self.size)

    def draw(self) -> list[Example]:
        """The next batch."""
        while len(self._waiting) < self.size:
            self._waiting += torch.randperm(len(self.examples), generator=self.generator).tolist()
        chosen, self._waiting = self._waiting[: self.size], self._waiting[self.size :]
        self.rows = torch.cat([self._rows[index] for index in chosen])
        return [self.examples[index] for index in chosen]


def _positions(labels: Sequence[int]) -> int:
    return sum(label != IGNORE for label in labels)
