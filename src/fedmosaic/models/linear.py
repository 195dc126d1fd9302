"""Read the shape and the weight of linear modules, whatever their class."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def widths(module: nn.Module) -> tuple[int, int] | None:
    """Return d_in and d_out of a linear module, quantised or not; None for any other module."""
    module = base_layer(module)
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    found = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if isinstance(found[0], int) and isinstance(found[1], int):
        return found  # type: ignore[return-value]
    return None


def weight_of(module: nn.Module) -> Tensor:
    """Return the weight of a linear module as [d_out, d_in], which GPT-2 keeps transposed."""
    module = base_layer(module)
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight.t() if isinstance(module, Conv1D) else weight


def base_layer(module: nn.Module) -> nn.Module:
    """Return the layer itself, without an adapter around it."""
    base = getattr(module, "base_layer", module)
    return base if isinstance(base, nn.Module) else module
