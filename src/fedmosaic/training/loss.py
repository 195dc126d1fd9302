"""The training loss: cross-entropy on what the assistant says, with logits computed only where they are needed."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.chat import IGNORE


def answer_logits(model: Any, backbone: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [n, K, vocabulary] of the columns that predict a label, and those labels [n, K] (-100: none).

    Batches are padded on the left, so the K last columns hold every answer; the language-model head runs only there.
    """
    width = min(batch.answer_width, batch.labels.shape[1] - 1)
    output = model(
        inputs_embeds=backbone.embed(batch),
        attention_mask=batch.attention_mask,
        logits_to_keep=width + 1,
        use_cache=False,
    )
    return output.logits[:, :-1], batch.labels[:, -width:]


def answer_loss(model: Any, backbone: Backbone, batch: Batch) -> Tensor:
    """Mean cross-entropy over the labelled tokens of the batch, in float32."""
    logits, labels = answer_logits(model, backbone, batch)
    return functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)
