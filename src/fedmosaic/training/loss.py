"""Compute training losses: cross-entropy on answers, and the terms that algorithms add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE


def answer_logits(model: Any, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits [n, K, vocabulary] of the columns that predict a label, and the labels.

    Batches are padded on the left, so the last K columns hold every answer. The language-model head
    runs only there. The labels [n, K] are -100 where nothing is learned.
    """
    length = batch.labels.shape[1]
    width = min(batch.answer_width, length - 1)
    logits = backbone.logits(model, batch, batch.columns(length - width - 1, length - 1))
    return logits, batch.labels[:, -width:]


def answer_loss(model: Any, backbone: Backbone, batch: Batch) -> Tensor:
    """Return the mean cross-entropy over the labelled tokens of the batch, in float32."""
    logits, labels = answer_logits(model, backbone, batch)
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE
    )


def kl_divergence(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² · mean over positions of KL(softmax(targets/T) ‖ softmax(logits/T)), in float32.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.

    Args:
        logits: Logits of the student [positions, vocabulary].
        targets: Logits of the teacher at the same positions and of the same vocabulary. They get no
            gradient.
        temperature: T; both are divided by it once.
    """
    log_p = (targets.detach().float() / temperature).log_softmax(-1)
    log_q = (logits.float() / temperature).log_softmax(-1)
    return temperature**2 * functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def proximal_term(parameters: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> Tensor:
    """Return ½ ‖θ − θ̂‖² over all tensors θ of ``parameters`` and θ̂ of ``anchor``.

    Both have the same names. The tensors of ``anchor`` have no gradient.
    """
    distances = [
        (parameter - anchor[name]).square().sum() for name, parameter in parameters.items()
    ]
    return 0.5 * torch.stack(distances).sum()
