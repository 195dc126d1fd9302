"""Learn a P and Q that move to other architectures from one backward pass an example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.alignment.transfer.effects import (
    derivatives,
    parts,
    sequence_scores,
    target_of,
    token_scores,
    with_options,
)
from fedmosaic.alignment.transfer.frame import CoLoraFrame
from fedmosaic.alignment.transfer.ridge import PENALTY, kernel_ridge
from fedmosaic.data.example import Example
from fedmosaic.evaluation.plain_questions import first_tokens
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.batch import Batch


def record_margins(
    backbone: Backbone, frame: CoLoraFrame, examples: Sequence[Example], batch_size: int = 16
) -> Tensor:
    """Record the effect of P and Q on the margin of each example's right option.

    With s_o the score of option o, K options and y the centred indicator of the right one:

        margin = Σ_o y_o s_o = s_right − mean of s,   row = ∂ margin / ∂ (P, Q) at P = Q = 0

    Where all options of an example are one token each, a row costs one forward and one backward
    pass; otherwise as many as there are options. :func:`.record_effects` records each option.

    Args:
        backbone: the bare base model.
        frame: its sites, A and B.
        examples: with answers; open questions get wrong options of each other. The row of an
            example that has no wrong option is zero.
        batch_size: most sequences in a batch.

    Returns:
        float32 [examples, d], as rows of :class:`.AnswerEffects`.

    Raises:
        DataError: an answer is none of its options.
        ModelError: as :func:`.record_effects`.
    """
    asked = with_options(examples)
    able = [i for i, example in enumerate(asked) if len(example.options) > 1]
    tokens = {i: first_tokens(backbone, asked[i]) for i in able}
    rows: dict[int, Tensor] = {}
    for part in parts([i for i in able if tokens[i] is not None], batch_size):
        batch = backbone.collate([backbone.encode(asked[i], answer=False) for i in part])
        score = token_scores(backbone, [tokens[i] or [] for i in part])
        weights = torch.nn.utils.rnn.pad_sequence([target_of(asked[i]) for i in part], True)

        def margin(batch: Batch, score: object = score, weights: Tensor = weights) -> Tensor:
            found: Tensor = score(batch)  # type: ignore[operator]
            return (found * weights.to(found)).sum(1, keepdim=True)

        rows |= dict(zip(part, derivatives(backbone, frame, batch, margin)[:, 0], strict=True))
    for i in [i for i in able if tokens[i] is None]:
        options = [backbone.encode_option(asked[i], option) for option in asked[i].spellings]
        found = derivatives(backbone, frame, backbone.collate(options), sequence_scores(backbone))
        rows[i] = (found[:, 0] * target_of(asked[i])[:, None]).sum(0)
    size = sum(frame.width(site) for site in frame.sites)
    none = torch.zeros_like(next(iter(rows.values()), torch.zeros(size)))
    return torch.stack([none, *(rows.get(i, none) for i in range(len(asked)))])[1:]


def from_margins(
    frame: CoLoraFrame,
    rows: Tensor,
    penalty: float = PENALTY,
    weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the P and Q that raise all margins alike, by :func:`.kernel_ridge`.

    Args:
        frame: where the model carries Co-LoRA.
        rows: of :func:`record_margins`, [n, d].
        penalty: λ.
        weights: of the rows, [n]; None: all count alike.

    Returns:
        as :func:`.learn_transferable`; zeros without rows.
    """
    if not len(rows):
        return frame.split(torch.zeros(rows.shape[1]))
    return frame.split(kernel_ridge(rows, torch.ones(len(rows)), penalty, weights=weights))
