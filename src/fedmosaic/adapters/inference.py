"""Answer with merged weights: one matrix product a layer while adapters do not change.

Training computes ``W x`` and the change of each adapter. For evaluation the sum of both is one
weight, ``W + sum c_i s_i B_i P_i A_i``, which is made once for all test items and multiplied
through oneDNN where that pays (:mod:`fedmosaic.models.packed`). The merged weights are copies. The
model itself, its numbers in training and its other adapters stay as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.models.fused_inputs import SharedInputs
from fedmosaic.models.fused_layer import FusedLayer, fusable
from fedmosaic.models.packed import FrozenProduct, pays
from fedmosaic.models.product_forward import ProductForward
from fedmosaic.models.stored_products import stored_product

MEMORY = 2 << 30
"""Bytes of merged and packed weights that a model may have at a time; further layers stay plain."""

Weights = tuple[Tensor, Tensor | None]
Take = Callable[[int], bool]
"""Function that takes so many bytes of memory; False where they are not left."""
Make = Callable[[Take], FrozenProduct | None]
"""Function that makes the product of a layer; None where it has no fixed weights."""


@contextmanager
def merged_weights(model: nn.Module, memory: int = MEMORY, fuse: bool = False) -> Iterator[None]:
    """Let the layers of a model compute with merged weights inside the block.

    Weights are merged when a layer is first used, with the adapters that are active then. Nothing
    may change them inside the block: no training, no other active adapters. A layer stays as it is
    where its output is no fixed linear function in float32: with an input-dependent gate, a
    quantised or bfloat16 base, dropout, or hooks on its base layer. Frozen linear layers without
    an adapter of ours are only packed, and stay so for the next block
    (:mod:`fedmosaic.models.stored_products`). Results differ from the plain ones in their last
    bits.

    Args:
        model: A model with or without adapters.
        memory: Bytes that merged and packed weights may take.
        fuse: Compute whole decoder layers with them, where their kind is known
            (:mod:`fedmosaic.models.fused_layer`).
    """
    room = _Room(memory)
    replaced: list[nn.Module] = []
    modules = list(model.modules())
    try:
        for whole, forward in _fused(modules, room) if fuse else ():
            whole.forward = forward
            replaced.append(whole)
        for layer, make in _layers(modules):
            if "forward" not in layer.__dict__:  # else accelerate moves its weights in and out
                frozen = not isinstance(layer, AdaptedLinear)
                layer.forward = ProductForward(layer.forward, partial(make, room.take), frozen)
                replaced.append(layer)
        yield
    finally:
        for layer in replaced:
            if isinstance(layer.forward, FusedLayer):
                layer.forward.shared.clear()
            del layer.forward


class _Room:
    """Count down the bytes that are left."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, size: int) -> bool:
        """Take this many bytes; return False where they are not left."""
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits


_valid: weakref.WeakKeyDictionary[nn.Module, SharedInputs] = weakref.WeakKeyDictionary()
"""For each model what its fused layers share, and whether they give the numbers of its own."""


def _fused(modules: Sequence[nn.Module], room: _Room) -> list[tuple[nn.Module, FusedLayer]]:
    """Return the decoder layers that may be fused, each with its new ``forward``."""

    def weights(module: nn.Module) -> Weights | None:
        if isinstance(module, AdaptedLinear):
            return merged(module)
        return (module.weight, module.bias) if type(module) is nn.Linear else None

    found = [module for module in modules if fusable(module)]
    if not found:
        return []
    shared = _valid.setdefault(found[0], SharedInputs())
    return [(layer, FusedLayer(layer, weights, room.take, shared)) for layer in found]


def _layers(modules: Sequence[nn.Module]) -> Iterator[tuple[nn.Module, Make]]:
    """Yield the layers that may compute with a fixed weight, and what makes their products."""
    adapted = [module for module in modules if isinstance(module, AdaptedLinear)]
    inside = {id(layer.base_layer) for layer in adapted}
    for layer in adapted:
        yield layer, partial(_merged_product, layer)
    for module in modules:
        if type(module) is nn.Linear and id(module) not in inside:
            yield module, partial(_frozen_product, module)


def _merged_product(layer: AdaptedLinear, take: Take) -> FrozenProduct | None:
    """Return the product of a layer with its active adapters; None where they are not fixed."""
    found = merged(layer)
    return FrozenProduct(*found) if found is not None and take(found[0].nbytes) else None


def _frozen_product(layer: nn.Linear, take: Take) -> FrozenProduct | None:
    """Return the product of a frozen layer where packing its weight pays; else None."""
    if any(parameter.requires_grad for parameter in layer.parameters()) or not pays(layer.weight):
        return None
    return stored_product(layer) if take(layer.weight.nbytes) else None


def merged(layer: AdaptedLinear) -> Weights | None:
    """Return weight and bias of a layer with its active adapters; None where they are not fixed."""
    names = layer.adapters_in_use()
    trained = [getattr(layer, layer.low_rank_names[0])[name].dtype for name in names]
    if (
        not layer._can_fuse(names, torch.float32)
        or any(dtype != torch.float32 for dtype in trained)
        or (layer.is_gated_pair(names) and layer.colora_gate == "input")
    ):
        return None
    base = layer.get_base_layer()
    weight, bias = base.weight.detach(), _detached(base.bias)
    factors = layer.coefficients(names)
    weight = weight + layer.weighted_delta(factors) if factors else weight.clone()
    for name, factor in factors.items():
        change = layer.get_delta_bias(name)
        if change is not None:
            bias = factor * change if bias is None else bias + factor * change
    return weight, bias


def _detached(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()
