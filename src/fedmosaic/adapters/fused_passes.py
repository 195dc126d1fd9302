"""Compute the two halves of a decoder layer, before and after attention, as autograd functions.

Autograd would record each operation of the norms, of the rotary embeddings and of the activation,
and store its input. Written out, their gradients take half the operations. The linear layers keep
their own passes (:mod:`fedmosaic.adapters.functional`). Sums are added up in the sequence in which
autograd would do it, so that every bit is the same.

Shapes: x ``[n, T, d]``, rows ``[n T, d]``, cos and sin ``[n or 1, T, head size]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from fedmosaic.adapters.projections import Projection


class Norm(NamedTuple):
    """State a root-mean-square norm ``w x / sqrt(mean x^2 + epsilon)`` with a frozen scale w."""

    weight: Tensor
    epsilon: float

    @classmethod
    def of(cls, module: Any) -> Norm:
        """Return that of a module."""
        return cls(module.weight, module.variance_epsilon)

    def output(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normed rows, and the factor 1 / sqrt(...) of each, which backward needs."""
        factor = torch.mul(x, x).mean(-1, keepdim=True).add_(self.epsilon).rsqrt_()
        return (x * factor).mul_(self.weight), factor

    def add_gradient(self, total: Tensor | None, grad: Tensor, x: Tensor, factor: Tensor) -> Tensor:
        """Return ``total`` plus the gradient of x, for the gradient of the output.

        Args:
            total: The gradient of x from elsewhere, which stays unchanged; None: 0.
            grad: The gradient of the output, which is overwritten.
            x: The input.
            factor: What :meth:`output` returned.
        """
        inner = grad.mul_(self.weight)
        of_factor = (inner * x).sum(-1, keepdim=True)
        of_mean = (of_factor.mul_(-0.5)).mul_(factor.pow(3)).div_(x.shape[-1])
        through_factor = x * of_mean.mul_(2)
        direct = inner.mul_(factor)
        return (direct if total is None else direct.add_(total)).add_(through_factor)


class Rotation:
    """Rotate queries and keys by rotary embeddings, and gradients back."""

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        first, second = sin.unsqueeze(2).chunk(2, -1)
        self.cos = cos.unsqueeze(2)
        self._forth = torch.cat((-first, second), -1)
        self._back = torch.cat((second, -first), -1)

    def rotated(self, x: Tensor) -> Tensor:
        """Return ``x cos + (-x_2, x_1) sin`` for x ``[n, T, heads, head size]``."""
        return self._plus_swapped(x, self._forth)

    def rotated_back(self, grad: Tensor) -> Tensor:
        """Return the gradient of what :meth:`rotated` was given."""
        return self._plus_swapped(grad, self._back)

    def _plus_swapped(self, x: Tensor, sin: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return (x * self.cos).add_(torch.cat((second, first), -1).mul_(sin))


class BeforeAttention(Function):
    """Norm the input of a layer, project it to queries, keys and values, and rotate the first two.

    It also returns its input, where that needs a gradient: what is added to the layer's output must
    take this one, so that the three gradients of x are added up here.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm: Norm,
        rotation: Rotation,
        parts: tuple[Projection, Projection, Projection],
        size: int,
        *_: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return queries, keys and values ``[n, heads, T, head size]``.

        Args:
            ctx: Autograd's context.
            x: The hidden states.
            norm: The norm before attention.
            rotation: The rotary embeddings.
            parts: The projections to queries, keys and values.
            size: The head size.
            _: The trained arguments of the projections, in this sequence.
        """
        need_x = ctx.needs_input_grad[0]
        normed, factor = norm.output(x.reshape(-1, x.shape[-1]))
        q, k, v = (part.output(normed, need_x).view(*x.shape[:-1], -1, size) for part in parts)
        ctx.save_for_backward(x, factor)
        ctx.norm, ctx.rotation, ctx.parts = norm, rotation, parts
        found = tuple(
            each.transpose(1, 2) for each in (rotation.rotated(q), rotation.rotated(k), v)
        )
        return (*found, x) if need_x else found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of x and of the trained arguments."""
        x, factor = ctx.saved_tensors
        q, k, v = (grad.transpose(1, 2) for grad in grads[:3])
        q, k = ctx.rotation.rotated_back(q), ctx.rotation.rotated_back(k)
        total, trained = None, []
        for part, grad in zip(reversed(ctx.parts), (v, k, q), strict=True):
            total, others = part.gradients(grad.reshape(x.shape[0] * x.shape[1], -1), total)
            trained.append(others)
        if total is not None:
            rows = x.reshape(-1, x.shape[-1])
            residual = grads[3].reshape(-1, x.shape[-1])
            total = ctx.norm.add_gradient(residual, total, rows, factor).view(x.shape)
        return total, None, None, None, None, *(g for part in reversed(trained) for g in part)


class AfterAttention(Function):
    """Compute the rest of a layer: the output projection and the gated MLP, each added to x."""

    @staticmethod
    def forward(
        ctx: Any,
        attended: Tensor,
        x: Tensor,
        norm: Norm,
        parts: tuple[Projection, Projection, Projection, Projection],
        *_: Tensor,
    ) -> Tensor:
        """Return the output of the layer.

        Args:
            ctx: Autograd's context.
            attended: The output of attention ``[n, T, heads * head size]``.
            x: The layer's hidden states, as :class:`BeforeAttention` returned them.
            norm: The norm before the MLP.
            parts: The output projection, and those of the MLP: gate, up and down.
            _: The trained arguments of the projections, in this sequence.
        """
        project, gate, up, down = parts
        middle = project.output(attended.reshape(-1, attended.shape[-1]), True)
        middle.add_(x.reshape(middle.shape))
        normed, factor = norm.output(middle)
        gated, raised = gate.output(normed, True), up.output(normed, True)
        active = silu(gated)
        out = down.output(active * raised, True).add_(middle)
        ctx.save_for_backward(middle, factor, gated, raised, active)
        ctx.norm, ctx.parts, ctx.shapes = norm, parts, (attended.shape, x.shape)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of the attention's output, of x and of the trained arguments."""
        middle, factor, gated, raised, active = ctx.saved_tensors
        project, gate, up, down = ctx.parts
        grad = grad.reshape(middle.shape)
        of_inner, of_down = down.gradients(grad)
        of_rows, of_up = up.gradients(of_inner * active)
        of_gated = torch.ops.aten.silu_backward(of_inner.mul_(raised), gated)
        of_rows, of_gate = gate.gradients(of_gated, of_rows)
        total = ctx.norm.add_gradient(grad, of_rows, middle, factor)
        of_attended, of_project = project.gradients(total)
        attended_shape, x_shape = ctx.shapes
        of_x = total.view(x_shape) if ctx.needs_input_grad[1] else None
        trained = (*of_project, *of_gate, *of_up, *of_down)
        return of_attended.view(attended_shape), of_x, None, None, *trained
