"""Hold frozen weights in oneDNN's layout from one evaluation of a process to the next."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmosaic.models.packed import FrozenProduct, pays

LIMIT = 1 << 30
"""Most bytes that are held for all models of a process; further weights are packed each time."""


@dataclass(frozen=True)
class _Stored:
    sums: Tensor
    product: FrozenProduct
    size: int


_stored: weakref.WeakKeyDictionary[nn.Module, _Stored] = weakref.WeakKeyDictionary()


def stored_product(layer: nn.Linear, limit: int = LIMIT) -> FrozenProduct:
    """Return the product with the weight of a frozen layer, packed only if it changed.

    Packing a weight takes 20 times as long as reading it, so its bits are summed up at each call:
    a weight that was changed or replaced in whatever way is packed anew. What is held is freed with
    the layer.

    Args:
        layer: A linear layer.
        limit: Most bytes to hold for all layers of the process.
    """
    weight, bias = layer.weight.detach(), layer.bias
    found, sums = _stored.pop(layer, None), _sums(weight)
    if sums is None:
        return FrozenProduct(weight, bias)
    if found is None or not torch.equal(found.sums, sums):
        found = _Stored(sums, FrozenProduct(weight), weight.nbytes)
    if sum(other.size for other in _stored.values()) + found.size <= limit:
        _stored[layer] = found
    return found.product.with_bias(bias)


def _sums(weight: Tensor) -> Tensor | None:
    """Return sums of the bits of each row; None where a weight is not to be packed."""
    if not pays(weight) or weight.shape[1] % 2 or not weight.is_contiguous():
        return None
    return weight.view(torch.int64).sum(1)
