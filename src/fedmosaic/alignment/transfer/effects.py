"""Record what P and Q change in the scores of a model's options, to first order.

With the score f_k of option k (its log-likelihood, as :mod:`fedmosaic.evaluation.likelihood`
computes it), x_t the input of a site at token t and g_kt the gradient of f_k by its output,

    ∂f_k/∂P = s Σ_t (Bᵀ g_kt) (A x_t)ᵀ,     ∂f_k/∂Q = s Σ_t Bᵀ g_kt     at P = Q = 0

of the bare base model. Only differences between the options of one question decide, so the rows
are centred over them, and so are the targets (1 for the right option, 0 for the others).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from fedmosaic.alignment.hooks import SiteActivations, by_token, record_sites
from fedmosaic.alignment.transfer.frame import CoLoraFrame
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.evaluation.answers import is_same_option
from fedmosaic.evaluation.plain_questions import first_tokens
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE

ALTERNATIVES = 2
"""Answers of other examples that serve as the wrong options of an open question."""

T = TypeVar("T")
Scorer = Callable[[Batch], Tensor]
"""Return scores [n, K] of a batch of n sequences."""


@dataclass(frozen=True)
class AnswerEffects:
    """Hold first-order effects and targets of the options of some examples.

    Attributes:
        rows: J, float32 [options of all examples, d]; for each site P flat, then Q
            (:meth:`.CoLoraFrame.split`). Centred over the options of each example.
        targets: float32 [options of all examples], centred in the same way.
    """

    rows: Tensor
    targets: Tensor


def record_effects(
    backbone: Backbone, frame: CoLoraFrame, examples: Sequence[Example], batch_size: int = 16
) -> AnswerEffects:
    """Record the effects of P and Q on the options of examples.

    It costs about as much as training on each example as often as it has options. The rows take
    4 d bytes an option, with d = sites · r (r + 1): 133 kB for 8 sites and r = 64.

    Args:
        backbone: the bare base model.
        frame: its sites, A and B.
        examples: with answers. An open question gets the answers of the two next examples that
            answer otherwise as wrong options.
        batch_size: most sequences in a batch.

    Raises:
        DataError: no example has a wrong option, or an answer is none of its options.
        ModelError: a site sees other tokens than those of the batch.
    """
    asked = with_alternatives(examples)
    targets = torch.cat([target_of(example) for example in asked])
    single = {place: first_tokens(backbone, example) for place, example in enumerate(asked)}
    rows: list[list[Tensor]] = [[] for _ in asked]
    prompts = [place for place, tokens in single.items() if tokens is not None]
    for part in parts(prompts, batch_size):
        encoded = [backbone.encode(asked[place], answer=False) for place in part]
        tokens = [single[place] or [] for place in part]
        found = derivatives(
            backbone, frame, backbone.collate(encoded), token_scores(backbone, tokens)
        )
        for place, own, options in zip(part, found, tokens, strict=True):
            rows[place] = list(own[: len(options)])
    pairs = [
        (place, option)
        for place, tokens in single.items()
        if tokens is None
        for option in asked[place].spellings
    ]
    for pairs_part in parts(pairs, batch_size):
        encoded = [backbone.encode_option(asked[place], option) for place, option in pairs_part]
        found = derivatives(backbone, frame, backbone.collate(encoded), sequence_scores(backbone))
        for (place, _), own in zip(pairs_part, found, strict=True):
            rows[place].append(own[0])
    centred = [torch.stack(own) - torch.stack(own).mean(0) for own in rows]
    return AnswerEffects(torch.cat(centred), targets)


def with_alternatives(examples: Sequence[Example]) -> list[Example]:
    """Return the examples that have a wrong option; open questions are given some.

    Raises:
        DataError: there is none.
    """
    found = [example for example in with_options(examples) if len(example.options) > 1]
    if not found:
        raise DataError(
            f"none of {len(examples)} examples has a wrong option, and no open question has an "
            "answer that another one lacks: nothing can be learned from them"
        )
    return found


def with_options(examples: Sequence[Example]) -> list[Example]:
    """Return the examples; open questions have answers of others as wrong options, if there are."""
    found = []
    for place, example in enumerate(examples):
        if not example.options:
            following = (*examples[place + 1 :], *examples[:place])
            others = dict.fromkeys(
                other.answer for other in following if other.answer != example.answer
            )
            options = (example.answer, *list(others)[:ALTERNATIVES])
            found.append(replace(example, options=options, choice=0, spellings=options))
        else:
            found.append(example)
    return found


def target_of(example: Example) -> Tensor:
    """Return 1 for the right option and 0 for the others, centred."""
    right = example.choice
    if right is None:
        same = [is_same_option(option, example.answer) for option in example.options]
        if not any(same):
            raise DataError(
                f"example {example.id!r}: its answer {example.answer!r} is none of its options"
            )
        right = same.index(True)
    target = torch.zeros(len(example.options))
    target[right] = 1
    return target - target.mean()


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in parts of at most ``size``."""
    return (items[start : start + size] for start in range(0, len(items), size))


def token_scores(backbone: Backbone, tokens: Sequence[list[int]]) -> Scorer:
    """Score options of one token each by their logits after the prompt, as evaluation does."""
    most = max(map(len, tokens))
    # Missing options repeat the first one, and their rows are dropped.
    padded = torch.tensor([own + own[:1] * (most - len(own)) for own in tokens])

    def score(batch: Batch) -> Tensor:
        length = batch.input_ids.shape[1]
        logits = backbone.logits(backbone.model, batch, batch.columns(length - 1, length))[:, -1]
        return _wide(logits).gather(1, padded.to(logits.device))

    return score


def sequence_scores(backbone: Backbone) -> Scorer:
    """Score an option by the sum of the log-probabilities of its tokens, as evaluation does."""

    def score(batch: Batch) -> Tensor:
        width, length = batch.answer_width, batch.labels.shape[1]
        columns = batch.columns(length - width - 1, length - 1)
        logs = _wide(backbone.logits(backbone.model, batch, columns)).log_softmax(-1)
        labels = batch.labels[:, -width:]
        picked = logs.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
        return picked.masked_fill(labels == IGNORE, 0.0).sum(1, keepdim=True)

    return score


def derivatives(backbone: Backbone, frame: CoLoraFrame, batch: Batch, score: Scorer) -> Tensor:
    """Return the derivatives of each score by P and Q of all sites, [n, K, d]."""
    sites = record_sites(backbone, frame.sites)
    with torch.enable_grad(), backbone.input_gradients(), sites as recorded:
        scores = score(batch)
    outputs = [recorded[site.key].y for site in frame.sites]
    real, found = batch.attention_mask.bool(), []
    for number in range(scores.shape[1]):
        last = number + 1 == scores.shape[1]
        gradients = torch.autograd.grad(scores[:, number].sum(), outputs, retain_graph=not last)
        found.append(_products(backbone, frame, recorded, gradients, real))
    return torch.stack(found, 1)


def _products(
    backbone: Backbone,
    frame: CoLoraFrame,
    recorded: dict[str, SiteActivations],
    gradients: Sequence[Tensor],
    real: Tensor,
) -> Tensor:
    """Return the derivatives by P and Q from the gradients by the sites' outputs, [n, d]."""
    found = []
    for site, gradient in zip(frame.sites, gradients, strict=True):
        name = f"{backbone.name}: {site.key}"
        x = _wide(by_token(recorded[site.key].x.detach(), real, name)) * real[..., None]
        g = _wide(by_token(gradient, real, name)) * real[..., None]
        a, b = (value.to(g) for value in frame.pair(site))
        z, u = x @ a.t(), g @ b * frame.scaling
        found.append((u.transpose(1, 2) @ z).flatten(1))
        if frame.has_q:
            found.append(u.sum(1))
    return torch.cat(found, 1).cpu()


def _wide(values: Tensor) -> Tensor:
    """Return the values in float32, or as they are in float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
