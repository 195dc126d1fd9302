"""Test that packed frozen weights are held between evaluations, and never stale."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedmosaic.models import packed, stored_products
from fedmosaic.models.packed import FrozenProduct
from fedmosaic.models.product_forward import ProductForward, multiplies_own_weight
from fedmosaic.models.stored_products import stored_product


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pack on every processor, with nothing held before; return the sizes that are packed."""
    if not (packed.HAS_OPS and torch.backends.mkldnn.is_available()):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(packed, "_suitable_processor", lambda: True)
    stored_products._stored.clear()
    sizes: list[int] = []
    make = FrozenProduct.__init__

    def count(self: FrozenProduct, weight: torch.Tensor, bias: Any = None) -> None:
        sizes.append(weight.nbytes)
        make(self, weight, bias)

    monkeypatch.setattr(FrozenProduct, "__init__", count)
    return sizes


def linear(d_in: int = 64) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(d_in, 96).requires_grad_(False)


def is_right(layer: nn.Linear) -> bool:
    x = torch.randn(5, layer.in_features)
    return torch.allclose(
        stored_product(layer)(x), nn.functional.linear(x, layer.weight, layer.bias), atol=1e-5
    )


def test_an_unchanged_weight_is_packed_a_single_time(counted: list[int]) -> None:
    layer = linear()
    assert all(is_right(layer) for _ in range(3))
    assert len(counted) == 1


def _swap(layer: nn.Linear) -> None:
    layer.weight.data[[0, 1]] = layer.weight.data[[1, 0]]


def _next_bit(layer: nn.Linear) -> None:
    layer.weight.data.view(torch.int32)[3, 5] += 1


def _replace(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(torch.randn(96, 64), requires_grad=False)


def _smaller(layer: nn.Linear) -> None:
    layer.weight.data = layer.weight.data[:80].clone()
    layer.bias.data = layer.bias.data[:80]


CHANGES = {
    "in place": lambda layer: layer.weight.add_(1.0),
    "through data": lambda layer: layer.weight.data.mul_(2.0),
    "other data": lambda layer: setattr(layer.weight, "data", torch.randn(96, 64)),
    "another parameter": _replace,
    "another shape": _smaller,
    "two rows swapped": _swap,
    "the last bit of one entry": _next_bit,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_weight_is_packed_anew(
    counted: list[int], change: Callable[[nn.Linear], Any]
) -> None:
    layer = linear()
    assert is_right(layer)
    change(layer)
    assert is_right(layer) and is_right(layer)
    assert len(counted) == 2


def test_the_present_bias_is_added(counted: list[int]) -> None:
    layer = linear()
    assert is_right(layer)
    layer.bias = nn.Parameter(torch.randn(96))
    assert is_right(layer)
    layer.bias = None
    assert is_right(layer)
    assert len(counted) == 1


def test_weights_are_freed_with_their_layer() -> None:
    layer = linear()
    assert is_right(layer) and len(stored_products._stored) == 1
    del layer
    gc.collect()
    assert len(stored_products._stored) == 0


def test_weights_beyond_the_limit_are_packed_each_time(counted: list[int]) -> None:
    layers = [linear(), linear()]
    for _ in range(3):
        for layer in layers:
            stored_product(layer, limit=layer.weight.nbytes)
    assert len(counted) == 1 + 3
    assert len(stored_products._stored) == 1


def test_rows_of_odd_length_are_not_held(counted: list[int]) -> None:
    layer = linear(63)
    assert is_right(layer) and is_right(layer)
    assert len(counted) == 2


def test_which_layers_multiply_their_own_weight() -> None:
    layer: Any = linear()
    assert multiplies_own_weight(layer) and not multiplies_own_weight(nn.Identity())
    for frozen in (True, False):
        layer.forward = ProductForward(layer.forward, lambda: None, frozen)
        assert multiplies_own_weight(layer) == frozen
        del layer.forward
    layer.forward = lambda x: x
    assert not multiplies_own_weight(layer)
