"""Test that each pass through a gated LoRA layer has its own copy of what its gradients need."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fedmosaic.adapters.linear import LoraLinear


@pytest.fixture
def layer(pair: Any) -> LoraLinear:
    model = pair("llama").train()
    found = next(module for module in model.modules() if isinstance(module, LoraLinear))
    found.base_layer.requires_grad_(False)
    return found


def reference(layer: LoraLinear, x: Tensor) -> Tensor:
    g = layer.gate(x)
    change = (1 - g) * layer.delta(x, "local") + g * layer.delta(x, "global")
    return layer.base_layer(x) + change


def trained(layer: LoraLinear) -> list[Tensor]:
    return [layer.colora_A["local"], layer.colora_B["local"], layer.colora_beta["local"]]


def change(layer: LoraLinear) -> None:
    with torch.no_grad():
        for parameter in (*trained(layer), layer.colora_A["global"], layer.colora_B["global"]):
            parameter.add_(0.3)


@pytest.mark.parametrize("name", ["colora_A", "colora_B", "colora_beta"])
@pytest.mark.parametrize("adapter", ["local", "global"])
@pytest.mark.parametrize("through_data", [False, True])
def test_a_pass_sees_what_changed_since_the_last(
    layer: LoraLinear, name: str, adapter: str, through_data: bool
) -> None:
    held = getattr(layer, name)
    if adapter not in held:
        pytest.skip("the global adapter has no gate")
    x = torch.randn(2, 5, layer.in_features)
    before = layer(x)
    with torch.no_grad():
        parameter = held[adapter]
        (parameter.data if through_data else parameter).add_(0.5)
    assert not torch.allclose(layer(x), before)
    torch.testing.assert_close(layer(x), reference(layer, x))


def test_gradients_are_those_of_the_parameters_of_the_pass(layer: LoraLinear) -> None:
    inputs = [torch.randn(2, 5, layer.in_features, requires_grad=True) for _ in range(2)]
    outputs, expected = [], []
    for x in inputs:  # two forward passes before the first backward pass
        wanted = [x, *trained(layer)]
        expected.append(torch.autograd.grad(reference(layer, x).square().sum(), wanted))
        outputs.append(layer(x).square().sum())
        change(layer)
    for x, output, gradients in zip(inputs[::-1], outputs[::-1], expected[::-1], strict=True):
        found = torch.autograd.grad(output, [x, *trained(layer)])
        for one, other in zip(found, gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
