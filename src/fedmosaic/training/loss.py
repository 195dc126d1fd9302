"""The training losses: cross-entropy on what the assistant says, with logits computed only where they are needed, and the terms
that algorithms add to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.chat import IGNORE


def answer_logits(model: Any, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [n, K, vocabulary] of the columns that predict a label, and those labels [n, K] (-100: none).

    Batches are padded on the left, so the K last columns hold every answer; the language-model head runs only there.
    """
    length = batch.labels.shape[1]
    width = min(batch.answer_width, length - 1)
    output = model(
        inputs_embeds=backbone.embed(batch),
        attention_mask=batch.attention_mask,
        logits_to_keep=batch.columns(length - width - 1, length - 1),
        use_cache=False,
    )
    return output.logits, batch.labels[:, -width:]


def answer_loss(model: Any, backbone: Backbone, batch: Batch) -> Tensor:
    """Mean cross-entropy over the labelled tokens of the batch, in float32."""
    logits, labels = answer_logits(model, backbone, batch)
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE
    )


def divergence(logits: Tensor, taught: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · mean over positions of KL(softmax(taught/T) ‖ softmax(logits/T)), in float32.

    Both are logits, [positions, vocabulary], of two models of one vocabulary at the same positions; each is softened once, here.
    No gradient reaches ``taught``.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    log_p = (taught.detach().float() / temperature).log_softmax(-1)
    log_q = (logits.float() / temperature).log_softmax(-1)
    return temperature**2 * functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def proximity(parameters: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> Tensor:
    """½ ‖θ − θ̂‖², over all tensors of ``parameters``; those of ``anchor`` have the same names and no gradient."""
    distances = [
        (parameter - anchor[name]).square().sum() for name, parameter in parameters.items()
    ]
    return 0.5 * torch.stack(distances).sum()
