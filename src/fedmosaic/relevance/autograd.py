"""Compute RELA's gradient signature of a batch by autograd through what follows the last layer.

One forward pass runs with a zero tensor added to the output y of the layer that the signature is
taken from. No parameter of the frozen model requires a gradient, so autograd records only what
comes after y: a norm after the MLP, the residual sum, the final norm, the head, a cap or a scale of
the logits. Its gradient at the zero tensor is dL/dy, exact for every such end of a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE
from fedmosaic.relevance.last_layer import (
    WAY_OUT,
    SignatureLayer,
    label_positions,
    refuse_active_adapters,
)
from fedmosaic.relevance.signature_model import LIMIT, Method, SignatureModel, random_batch


class AutogradSignature(SignatureModel):
    """Compute signatures by a small backward pass, for every end that a model can have.

    It holds the logits of the labelled columns of the batch and their gradient, as a training step
    on this batch would.

    Args:
        backbone: The shared model. Disable any adapter that was injected into it.
        keep: Share of the d rows of G that a signature holds, in (0, 1].
        seed: Draws these rows.

    Raises:
        ConfigError: ``keep`` is out of range.
        ModelError: the last layer has no plain linear layer to take the gradient of, or its
            gradient on random tokens is zero or not finite.
    """

    method: ClassVar[Method] = "autograd"

    def __init__(self, backbone: Backbone, keep: float = 0.4, seed: int = 0) -> None:
        super().__init__(backbone, keep, seed)
        found = self.gradient(random_batch(backbone))
        if not (torch.isfinite(found).all() and found.any()):
            raise ModelError(
                f"signature: the gradient of {self.layer.path} in {backbone.name} is zero or not "
                f"finite on random tokens{WAY_OUT}"
            )

    def gradient(self, batch: Batch) -> Tensor:
        """Return the signature of a batch: rows of G, flat, [size] in fp32."""
        return gradient_by_autograd(self.backbone, self.layer, self.rows, batch).flatten()


def gradient_by_autograd(
    backbone: Backbone, layer: SignatureLayer, rows: Tensor, batch: Batch
) -> Tensor:
    """Return rows of the loss gradient with respect to the layer's weight, [k, d_ff] in fp32.

    Raises:
        DataError: the batch has no labelled token.
        ModelError: an adapter is active in the model, or the model never calls the layer.
    """
    refuse_active_adapters(backbone)
    _, targets = label_positions(batch)
    width = batch.labels.shape[1]
    first = max(width - batch.answer_width - 1, 0)
    with torch.enable_grad(), _zeros_added(layer.module) as calls:
        logits = backbone.logits(backbone.model, batch, batch.columns(first, width - 1))
        if not calls:
            raise ModelError(
                f"signature: {backbone.name} does not call {layer.path}, of which a signature is "
                f"the gradient{WAY_OUT}"
            )
    upstream = _logit_gradient(logits.detach(), batch.labels[:, first + 1 :].to(logits.device))
    zeros = [zero for zero, _ in calls]
    found = torch.autograd.grad(logits, zeros, upstream, materialize_grads=True)
    total = torch.zeros(len(rows), layer.in_features, device=rows.device)
    for gradient, (_, activation) in zip(found, calls, strict=True):
        gradient, activation = gradient.flatten(0, -2), activation.flatten(0, -2)
        used = gradient.any(dim=1)  # other tokens add nothing
        part = gradient[used][:, rows.to(gradient.device)].float().T @ activation[used].float()
        total += part.to(total.device)
    return total / len(targets)


@contextmanager
def _zeros_added(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Add zeros that require a gradient to the layer's output; yield them with its inputs."""
    calls: list[tuple[Tensor, Tensor]] = []

    def add_zero(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        zero = torch.zeros_like(output, requires_grad=True)
        calls.append((zero, inputs[0].detach()))
        return output + zero

    handle = module.register_forward_hook(add_zero)
    try:
        yield calls
    finally:
        handle.remove()


def _logit_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Return T dL/dz at logits [n, T', V] of labels [n, T'], block by block, in their dtype.

    The factor T keeps small entries in the range of half precision.
    """
    result = torch.zeros_like(logits)
    places = (labels != IGNORE).nonzero()
    for block in places.split(max(1, LIMIT // logits.shape[-1])):
        row, column = block.unbind(1)
        delta = torch.softmax(logits[row, column].float(), dim=-1)
        at = labels[row, column].unsqueeze(-1)
        delta.scatter_add_(-1, at, delta.new_full((), -1.0).expand(at.shape))
        result[row, column] = delta.to(result.dtype)
    return result
