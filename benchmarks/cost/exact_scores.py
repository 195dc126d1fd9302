"""Compute a client's log-likelihoods in float64, to see how far those in float32 are off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Scores = list[list[float]]


class StayDouble(TorchFunctionMode):
    """Leave float64 tensors as they are where a model asks for float32, as its norms do."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function of torch."""
        given = kwargs or {}
        if function in (torch.Tensor.to, torch.Tensor.float) and args[0].dtype == torch.float64:
            dtypes = [*args[1:], given.get("dtype")]
            if function is torch.Tensor.float or any(one is torch.float32 for one in dtypes):
                return args[0]
        return function(*args, **given)


@contextmanager
def in_double(model: nn.Module) -> Iterator[None]:
    """Compute in float64 inside the block, with the same float32 weights.

    Args:
        model: A model whose weights are all float32, so that they are the same afterwards.
    """
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "frozen_products")]
    products = [layer.frozen_products for layer in layers]
    for layer in layers:
        layer.frozen_products = None  # oneDNN has no float64
    model.double()
    try:
        with StayDouble():
            yield
    finally:
        model.float()
        for layer, product in zip(layers, products, strict=True):
            layer.frozen_products = product


def differences(one: Scores, other: Scores) -> list[float]:
    """Return how far the scores of two evaluations differ, one value an option."""
    pairs = zip(one, other, strict=True)
    return [abs(a - b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True)]


def error(found: Scores, exact: Scores) -> dict[str, float]:
    """Return the largest and the root mean square difference from exact scores."""
    values = differences(found, exact)
    mean_square = math.fsum(value * value for value in values) / len(values)
    return {"largest": max(values), "root_mean_square": math.sqrt(mean_square)}
