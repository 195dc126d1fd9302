"""Replace the forward pass of a linear layer by a product with a fixed weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.models.packed import FrozenProduct


class ProductForward:
    """Compute a layer by a product that is made when the layer is first used.

    Args:
        plain: The layer's own ``forward``, for inputs that the product cannot serve.
        make: Returns the product; None where the layer has no fixed weight.
        frozen: The product is that of the layer's own weight.
    """

    def __init__(
        self,
        plain: Callable[..., Tensor],
        make: Callable[[], FrozenProduct | None],
        frozen: bool,
    ) -> None:
        self.plain = plain
        self.frozen = frozen
        self.product: FrozenProduct | None = None
        self._make = make
        self._made = False

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the output of the layer."""
        if (
            args
            or kwargs
            or x.dtype != torch.float32
            or torch.is_grad_enabled()
            or torch.is_autocast_enabled(x.device.type)
        ):
            return self.plain(x, *args, **kwargs)
        if not self._made:
            self._made, self.product = True, self._make()
        return self.plain(x) if self.product is None else self.product(x)


def multiplies_own_weight(layer: nn.Module) -> bool:
    """Return whether a layer computes ``W x + b`` of the weight and bias that it has."""
    forward = vars(layer).get("forward")
    replaced = isinstance(forward, ProductForward) and forward.frozen
    return type(layer) is nn.Linear and (forward is None or replaced)
