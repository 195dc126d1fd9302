"""Random questions to a model's output that mean the same in every model: what output gradients are taken of.

P learns from ∂L/∂P = s·Bᵀ(∂L/∂y)(A x)ᵀ, so B of two models must agree on the *gradients* of their layers' outputs y. A probe is a
scalar ℓ of the logits whose direction is random but equal in all models, told in words rather than in tokens:

    words:       ℓ = Σ_w c_w · logit(first token of w)         at the place that predicts the answer, c ~ N(0, 1), centred
    likelihood:  ℓ = Σ_s c_s · log p(text of segment s | before)  over the matched segments s of the answer, c ~ N(0, 1)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.chat import IGNORE
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.seeding import generator

MOST_WORDS = 256
FEWEST_WORDS = 4
SHORT = 3
"""Words up to which an answer counts as short, so that its first word tells it."""


def choose_probe(examples: Sequence[Example], asked: Literal["auto", "words", "likelihood"]) -> str:
    """``words`` if most answers are short, ``likelihood`` otherwise; what is asked for if it is not ``auto``."""
    if asked != "auto":
        return asked
    short = sum(len(example.answer.split()) <= SHORT for example in examples)
    return "words" if 2 * short > len(examples) else "likelihood"


def answer_words(examples: Sequence[Example], pivot: Backbone) -> list[str]:
    """The words that answers begin with, most frequent first, whose first tokens differ in the pivot.

    The pivot alone decides, so that a model that joins later changes nothing for the others. In a model where two words begin with
    one token that token has the weight of both.

    Raises:
        DataError: fewer than four of them: use ``probe: likelihood``.
    """
    counts = Counter(words[0] for example in examples if (words := example.answer.split()))
    words = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS]
    first = {pivot.answer_ids(word)[0]: word for word in reversed(words)}
    kept = [word for word in words if first[pivot.answer_ids(word)[0]] == word]
    if len(kept) < FEWEST_WORDS:
        raise DataError(
            f"the public examples' answers begin with {len(kept)} words that {pivot.name} tells apart; at least {FEWEST_WORDS} "
            "are needed, or alignment.probe=likelihood"
        )
    return kept


def word_probes(
    backbone: Backbone,
    batch: Batch,
    logits: Tensor,
    examples: Sequence[Example],
    words: Sequence[str],
    number: int,
    seed: int,
) -> Tensor:
    """ℓ of each probe, summed over the examples: [number]. ``logits`` [n, K + 1, vocabulary] as ``sites.forward`` gives them.

    Raises:
        DataError: the model tells fewer than four of the words apart by their first tokens.
    """
    tokens = torch.tensor([backbone.answer_ids(word)[0] for word in words], device=logits.device)
    if len(tokens.unique()) < FEWEST_WORDS:
        raise DataError(
            f"{backbone.name} begins the pivot's {len(words)} answer words with {len(tokens.unique())} different tokens; at "
            f"least {FEWEST_WORDS} are needed, or alignment.probe=likelihood"
        )
    weights = torch.stack(
        [
            torch.randn(number, len(words), generator=generator(seed, "probe", example.id))
            for example in examples
        ],
        1,
    )
    weights = (weights - weights.mean(-1, keepdim=True)).to(logits.device)
    # The answer that is asked about is the last turn's; the column before its first label predicts it.
    labels = batch.labels[:, -(logits.shape[1] - 1) :]
    columns = _last_run(labels)
    chosen = logits[torch.arange(len(labels), device=logits.device), columns][:, tokens].float()
    return torch.einsum("knw,nw->k", weights, chosen)


def likelihood_probes(
    batch: Batch,
    logits: Tensor,
    origins: Sequence[Tensor],
    examples: Sequence[Example],
    number: int,
    seed: int,
) -> Tensor:
    """ℓ of each probe, summed over the examples: [number].

    The weight of a token's log-likelihood is a smooth random function of where in the answer's text the token ends, so that
    tokenizations that cut the same text differently weigh it alike.
    """
    width = logits.shape[1] - 1
    labels = batch.labels[:, -width:]
    likelihood = (
        logits[:, :-1].float().log_softmax(-1).gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    )
    weights = torch.zeros(number, *labels.shape)
    for row, (table, example) in enumerate(zip(origins, examples, strict=True)):
        spoken = table[-width:] if len(table) >= width else table
        weights[:, row, width - len(spoken) :] = _smooth(spoken, example.id, number, seed)
    weights = torch.where(labels.cpu() == IGNORE, 0.0, weights).to(logits.device)
    return torch.einsum("knt,nt->k", weights, likelihood)


def _smooth(
    table: Tensor, name: str, number: int, seed: int, waves: int = 8, period: float = 24.0
) -> Tensor:
    """Random waves over the characters of each turn, [number, tokens]; zero outside the assistant's text."""
    draw = generator(seed, "probe", name)
    size = torch.randn(number, waves, 1, generator=draw) * (2 / waves) ** 0.5
    rate = torch.rand(number, waves, 1, generator=draw) * (2 * torch.pi / period)
    phase = torch.rand(number, waves, 1, generator=draw) * 2 * torch.pi
    place = (table[:, 3] + 1000 * table[:, 1]).double()
    value = (size * torch.sin(rate * place + phase)).sum(1).float()
    inside: Tensor = value * (table[:, 0] == TokenKind.ANSWER)
    return inside


def _last_run(labels: Tensor) -> Tensor:
    """For each row the index of the first label of its last run of labels, which is the column of logits that predicts it."""
    spoken = labels != IGNORE
    starts = spoken & ~torch.cat((torch.zeros_like(spoken[:, :1]), spoken[:, :-1]), 1)
    index = torch.arange(labels.shape[1], device=labels.device)
    return torch.where(starts, index, -1).amax(1).clamp_min(0)
