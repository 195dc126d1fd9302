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


class PeftPass:
    """Compute ``s B A x`` of a LoRA layer of PEFT, in the manner of a Function.

    It has the operations of PEFT, so that every bit is the same.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """Compute the change of output."""
        z = torch.mm(rows, a.t())
        ctx.save_for_backward(rows, z, a, b)
        ctx.scale = scale
        return torch.mm(z, b.t()).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of x, A and B."""
        rows, z, a, b = ctx.saved_tensors
        need_x, need_a, need_b, _ = ctx.needs_input_grad
        grad = grad * ctx.scale
        v = torch.mm(grad, b)
        db = torch.mm(grad.t(), z) if need_b else None
        da = torch.mm(v.t(), rows) if need_a else None
        return torch.mm(v, a) if need_x else None, da, db, None


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


class AddedProjection(Projection):
    """Add what the adapters change to the product with W, as an operation of its own.

    Args:
        plan: The change by the adapters alone.
        linear: The frozen layer.
        drop: Returns the input of the adapters with dropout; None: they get all of it.
        frozen: Products with W.
    """

    def __init__(
        self,
        plan: PassPlan,
        linear: Any,
        drop: Callable[[Tensor], Tensor] | None = None,
        frozen: FrozenProducts | None = None,
    ) -> None:
        super().__init__(plan)
        self.drop = drop
        self.linear = linear
        self.frozen = frozen
        self.factors: Tensor | None = None

    def output(self, rows: Tensor, need_x: bool) -> Tensor:
        """Return ``[n T, d_out]`` for rows ``[n T, d_in]``."""
        found = frozen_output(rows, self.linear.weight, self.linear.bias, self.frozen)
        assert found is not None
        if self.drop is not None:
            self.factors = self.drop(torch.ones_like(rows))
            rows = rows * self.factors
        return found.add_(super().output(rows, need_x))

    def gradients(
        self, grad: Tensor, total: Tensor | None = None
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Return the gradient of the rows, and those of the trained arguments."""
        of_adapters, trained = super().gradients(grad)
        if of_adapters is None:
            return None, trained
        if self.factors is not None:
            of_adapters.mul_(self.factors)
        found = of_adapters if total is None else total.add_(of_adapters)
        through_base = frozen_gradient(grad, self.linear.weight, self.frozen)
        assert through_base is not None
        return found.add_(through_base), trained
