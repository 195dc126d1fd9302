"""Run the pass of a linear layer inside a larger autograd function, in the place of its context.

Shapes: rows ``[n T, d_in]``, their outputs ``[n T, d_out]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fedmosaic.adapters.frozen_products import FrozenProducts
from fedmosaic.adapters.functional import frozen_gradient, frozen_output


class FrozenPass:
    """Compute ``W x + b`` of a linear layer without adapters, in the manner of a Function."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the output."""
        ctx.save_for_backward(weight)
        return torch.mm(rows, weight.t()) if bias is None else torch.addmm(bias, rows, weight.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        """Compute the gradient of x."""
        (weight,) = ctx.saved_tensors
        return torch.mm(grad, weight) if ctx.needs_input_grad[0] else None, None, None


class PassPlan:
    """State how a linear layer computes, for as long as nothing about it changes.

    Args:
        kind: The pass.
        arguments: What it takes after x.

    Attributes:
        tensors: Those of the arguments that are tensors.
        trains: Whether each argument gets a gradient.
        trained: Those of the tensors that do.
    """

    def __init__(self, kind: Any, arguments: tuple[Any, ...]) -> None:
        self.kind = kind
        self.arguments = arguments
        self.tensors = [value for value in arguments if isinstance(value, Tensor)]
        self._gradients = [tensor.requires_grad for tensor in self.tensors]
        self.trains = [isinstance(a, Tensor) and a.requires_grad for a in arguments]
        self.trained = [tensor for tensor in self.tensors if tensor.requires_grad]

    def changed(self) -> bool:
        """Return whether other tensors get gradients than before."""
        return [tensor.requires_grad for tensor in self.tensors] != self._gradients


class Projection:
    """Run the pass of one linear layer inside a larger function, in the place of its context."""

    saved_tensors: tuple[Tensor | None, ...]
    needs_input_grad: tuple[bool, ...]

    def __init__(self, plan: PassPlan) -> None:
        self.plan = plan

    def output(self, rows: Tensor, need_x: bool) -> Tensor:
        """Return ``[n T, d_out]`` for rows ``[n T, d_in]``."""
        self.needs_input_grad = (need_x, *self.plan.trains)
        found: Tensor = self.plan.kind.forward(self, rows, *self.plan.arguments)
        return found

    def gradients(
        self, grad: Tensor, total: Tensor | None = None
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Return the gradient of the rows, and those of the trained arguments.

        Args:
            grad: The gradient of the output.
            total: Where the gradient of the rows is added, in place; None: nowhere.
        """
        of_rows, *others = self.plan.kind.backward(self, grad)
        trains = self.plan.trains
        trained = [found for found, train in zip(others, trains, strict=True) if train]
        return of_rows if total is None else total.add_(of_rows), trained

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Hold tensors for the backward pass."""
        self.saved_tensors = tensors


class DroppedProjection(Projection):
    """Run the pass of a layer whose adapters get an input with dropout; W gets the whole input.

    Args:
        plan: The change of output by the adapters alone.
        drop: Returns an input with dropout.
        linear: The frozen layer.
        frozen: Its products.
    """

    def __init__(
        self,
        plan: PassPlan,
        drop: Callable[[Tensor], Tensor],
        linear: Any,
        frozen: FrozenProducts | None = None,
    ) -> None:
        super().__init__(plan)
        self.drop = drop
        self.linear = linear
        self.frozen = frozen

    def output(self, rows: Tensor, need_x: bool) -> Tensor:
        """Return ``[n T, d_out]`` for rows ``[n T, d_in]``."""
        self.need_x = need_x
        self.factors = self.drop(torch.ones_like(rows))
        found = frozen_output(rows, self.linear.weight, self.linear.bias, self.frozen)
        assert found is not None
        return found.add_(super().output(rows * self.factors, need_x))

    def gradients(
        self, grad: Tensor, total: Tensor | None = None
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Return the gradient of the rows, and those of the trained arguments."""
        of_dropped, trained = super().gradients(grad)
        if of_dropped is None or not self.need_x:
            return None, trained
        of_dropped.mul_(self.factors)
        found = of_dropped if total is None else total.add_(of_dropped)
        through_base = frozen_gradient(grad, self.linear.weight, self.frozen)
        assert through_base is not None
        return found.add_(through_base), trained
