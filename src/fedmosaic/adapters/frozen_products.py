"""Give adapted layers fast products with their frozen weights, of the same bits as torch's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.models.exact_product import ExactProduct

LIMIT = 1 << 30
SMALLEST = 1 << 13
"""Entries of a weight below which no batch of usual size makes oneDNN faster than torch."""


@dataclass(frozen=True)
class FrozenProducts:
    """Hold the products with the frozen weight of one layer.

    Attributes:
        output: ``W x + b``.
        gradient: ``(dL/dy) W``.
    """

    output: ExactProduct
    gradient: ExactProduct

    def __reduce__(self) -> tuple[Any, ...]:
        """Become None in a copy or pickle of the model, whose layers then multiply in torch.

        oneDNN's tensors cannot be copied, and a copied layer may change its weight.
        """
        return type(None), ()

    @classmethod
    def of(cls, linear: nn.Linear) -> FrozenProducts | None:
        """Return the products with a layer's weight; None where torch's are as fast."""
        if linear.weight.numel() < SMALLEST:
            return None
        output = ExactProduct.of(linear.weight, linear.bias)
        gradient = ExactProduct.of(linear.weight.t())
        return None if output is None or gradient is None else cls(output, gradient)


def pack_frozen_weights(model: nn.Module, limit: int = LIMIT) -> int:
    """Give each plain adapted layer of a model fast products with its frozen weight.

    They hold two copies of the weight. From then on the base weights must not be changed except by
    merging adapters, which drops the products of the layer.

    Args:
        model: A model with adapters of this package.
        limit: Most bytes for all copies; a model that needs more gets none.

    Returns:
        The bytes of the copies: 0 if there are none.
    """
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "frozen_products")]
    plain = [layer for layer in layers if type(layer.base_layer) is nn.Linear]
    size = sum(2 * _bytes(layer.base_layer.weight) for layer in plain)
    if size > limit:
        return 0
    packed = 0
    for layer in plain:
        layer.frozen_products = FrozenProducts.of(layer.base_layer)
        packed += 2 * _bytes(layer.base_layer.weight) if layer.frozen_products else 0
    return packed


def is_plain_linear(base: nn.Module, dtype: torch.dtype) -> bool:
    """Return whether this is a plain frozen linear layer of that dtype that nothing hooks into."""
    if type(base) is not nn.Linear:
        return False
    weight, bias = base.weight, base.bias
    if weight.dtype != dtype or weight.requires_grad or (bias is not None and bias.requires_grad):
        return False
    if (
        base._forward_hooks
        or base._forward_pre_hooks
        or base._backward_hooks
        or base._backward_pre_hooks
    ):
        return False
    # Replaced by accelerate, which moves weights in and out.
    return "forward" not in base.__dict__


def _bytes(weight: Tensor) -> int:
    return weight.numel() * weight.element_size()
