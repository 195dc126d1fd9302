"""Define probes: random scalars of a model's logits with the same meaning in every model.

P learns from ∂L/∂P = s·Bᵀ(∂L/∂y)(A x)ᵀ, so B of two models must agree on the *gradients* of their
layers' outputs y. Output gradients are taken of probes ℓ. The direction of a probe is random but
equal in all models, because it is defined by words or characters and not by tokens:

    words:       ℓ = Σ_w c_w · logit(first token of w)
                 at the token that predicts the answer, c ~ N(0, 1), centred
    likelihood:  ℓ = Σ_s c_s · log p(text of segment s | text before)
                 over the matched segments s of the answer, c ~ N(0, 1)
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
from fedmosaic.models.encoding import IGNORE
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.seeding import generator

MOST_WORDS = 256
FEWEST_WORDS = 4
SHORT = 3
"""Most words of an answer that counts as short, so that its first word identifies it."""

_PURPOSE = "probe"  # names the draw; published runs depend on it


def choose_probe(
    examples: Sequence[Example], requested: Literal["auto", "words", "likelihood"]
) -> str:
    """Resolve ``auto``: ``words`` if most answers are short, ``likelihood`` otherwise."""
    if requested != "auto":
        return requested
    short = sum(len(example.answer.split()) <= SHORT for example in examples)
    return "words" if 2 * short > len(examples) else "likelihood"


def answer_words(examples: Sequence[Example], pivot: Backbone) -> list[str]:
    """List the first words of the answers whose first tokens differ in the pivot.

    The most frequent come first. The list depends on the pivot alone, so that it does not change
    when models are added. In a model where two words begin with one token, that token has the
    weight of both.

    Raises:
        DataError: fewer than four words; ``probe: likelihood`` needs none.
    """
    counts = Counter(words[0] for example in examples if (words := example.answer.split()))
    words = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS]
    first = {pivot.answer_ids(word)[0]: word for word in reversed(words)}
    distinct = [word for word in words if first[pivot.answer_ids(word)[0]] == word]
    if len(distinct) < FEWEST_WORDS:
        raise DataError(
            f"the public examples' answers begin with {len(distinct)} words that {pivot.name} "
            f"begins with different tokens; at least {FEWEST_WORDS} are needed. Use more varied "
            "public examples or alignment.probe=likelihood"
        )
    return distinct


def word_probes(
    backbone: Backbone,
    batch: Batch,
    logits: Tensor,
    examples: Sequence[Example],
    words: Sequence[str],
    number: int,
    seed: int,
) -> Tensor:
    """Compute word probes, summed over the examples.

    Args:
        backbone: the model.
        batch: the examples as they were passed to the model.
        logits: [n, K + 1, vocabulary], as :func:`~fedmosaic.alignment.hooks.forward` returns them.
        examples: the n examples.
        words: answer words of the pivot.
        number: number of probes.
        seed: seed of the weights.

    Returns:
        ℓ of each probe, [number].

    Raises:
        DataError: fewer than four of the words have different first tokens in this model.
    """
    tokens = torch.tensor([backbone.answer_ids(word)[0] for word in words], device=logits.device)
    if len(tokens.unique()) < FEWEST_WORDS:
        raise DataError(
            f"{backbone.name} begins the pivot's {len(words)} answer words with "
            f"{len(tokens.unique())} different tokens; at least {FEWEST_WORDS} are needed. Use "
            "more varied public examples or alignment.probe=likelihood"
        )
    weights = torch.stack(
        [
            torch.randn(number, len(words), generator=generator(seed, _PURPOSE, example.id))
            for example in examples
        ],
        1,
    )
    weights = (weights - weights.mean(-1, keepdim=True)).to(logits.device)
    # Only the last turn's answer is used; the column before its first label predicts it.
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
    """Compute likelihood probes, summed over the examples.

    The weight of a token's log-likelihood is a smooth random function of the place in the answer
    where the token ends, so that different tokenizations of a text get similar weights.

    Args:
        batch: the examples as they were passed to the model.
        logits: [n, K + 1, vocabulary], as :func:`~fedmosaic.alignment.hooks.forward` returns them.
        origins: table of each example, as :meth:`Backbone.token_origins` returns it.
        examples: the n examples.
        number: number of probes.
        seed: seed of the weights.

    Returns:
        ℓ of each probe, [number].
    """
    width = logits.shape[1] - 1
    labels = batch.labels[:, -width:]
    likelihood = (
        logits[:, :-1].float().log_softmax(-1).gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    )
    weights = torch.zeros(number, *labels.shape)
    for row, (table, example) in enumerate(zip(origins, examples, strict=True)):
        tail = table[-width:] if len(table) >= width else table
        weights[:, row, width - len(tail) :] = _smooth(tail, example.id, number, seed)
    weights = torch.where(labels.cpu() == IGNORE, 0.0, weights).to(logits.device)
    return torch.einsum("knt,nt->k", weights, likelihood)


def _smooth(
    table: Tensor, name: str, number: int, seed: int, waves: int = 8, period: float = 24.0
) -> Tensor:
    """Draw random waves over the characters of each turn; zero outside the assistant's text.

    Returns:
        [number, tokens].
    """
    draw = generator(seed, _PURPOSE, name)
    size = torch.randn(number, waves, 1, generator=draw) * (2 / waves) ** 0.5
    rate = torch.rand(number, waves, 1, generator=draw) * (2 * torch.pi / period)
    phase = torch.rand(number, waves, 1, generator=draw) * 2 * torch.pi
    place = (table[:, 3] + 1000 * table[:, 1]).double()
    value = (size * torch.sin(rate * place + phase)).sum(1).float()
    inside: Tensor = value * (table[:, 0] == TokenKind.ANSWER)
    return inside


def _last_run(labels: Tensor) -> Tensor:
    """Return the index of the first label of each row's last run of labels.

    The column of logits with this index predicts that label.
    """
    is_label = labels != IGNORE
    starts = is_label & ~torch.cat((torch.zeros_like(is_label[:, :1]), is_label[:, :-1]), 1)
    index = torch.arange(labels.shape[1], device=labels.device)
    return torch.where(starts, index, -1).amax(1).clamp_min(0)
