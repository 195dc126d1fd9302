"""Select which of a model's LoRA adapters are active, and how strongly."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from peft.tuners.lora.layer import LoraLayer
from torch import Tensor

from fedmosaic.adapters import adapter_parameters


def activate(
    model: Any, factors: Mapping[str, float | Tensor], train: Collection[str] = ()
) -> None:
    """Make exactly these of PEFT's LoRA adapters active, each times its factor.

        h = W x + Σ_a f_a s B_a A_a x

    With activation checkpointing a backward pass computes again what is active at that time. A loss
    that needs several settings therefore finishes each backward pass before it activates others.

    Args:
        model: the PEFT model.
        factors: f by adapter: a number, or a tensor [n] with one for each sequence of a batch.
        train: the adapters that get gradients; the others are frozen.
    """
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.set_adapter(list(factors))
            for name, factor in factors.items():
                scale = factor.reshape(-1, 1, 1) if isinstance(factor, Tensor) else factor
                layer.set_scale(name, scale)
    model.base_model.active_adapter = list(factors)
    for name in factors.keys() - set(train):
        for parameter in adapter_parameters(model, name).values():
            parameter.requires_grad_(False)
