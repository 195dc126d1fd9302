"""Compute the change of a layer's output by the adapters of k clients in one pass.

The batch holds the tokens of all clients, grouped by client, and the adapters are stacked along a
leading dimension. The product with the frozen weight is one for all tokens; only the small products
with what differs between clients are client by client. The formulas and gradients are those of
``functional.CoLoraPass`` and ``functional.LoraPass``.

Shapes: x ``[n, d_in]``, n tokens of all clients; P ``[k, r, r]``, Q ``[k, r]``, beta ``[k, 1]``;
LoRA's A ``[k, r, d_in]``, B ``[k, d_out, r]``. W ``[d_out, d_in]`` and Co-LoRA's A ``[r, d_in]``,
B ``[d_out, r]`` belong to all clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from fedmosaic.adapters.functional import without_autocast
from fedmosaic.models.client_rows import ClientRows
from fedmosaic.models.packed import pays

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Compute ``x W^T + b`` from x, W and b, without a gradient."""


def product_with(weight: Tensor) -> Product:
    """Return how to multiply with a frozen weight: through oneDNN where that is faster.

    The weight stays in torch's layout, which costs oneDNN a few percent and no memory.
    """
    return _onednn if pays(weight) else linear


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


class Stack(NamedTuple):
    """Hold a matrix of each client.

    Attributes:
        whole: [k, d, d_out].
        parts: of each client, [d, d_out].
    """

    whole: Tensor
    parts: tuple[Tensor, ...]

    @classmethod
    def of(cls, whole: Tensor) -> Stack:
        """Return the matrices [k, d, d_out], without their gradient."""
        whole = whole.detach()
        return cls(whole, whole.unbind())


class LoraStacks:
    """Hold views of stacked LoRA matrices, for all steps in which they stay in place.

    Args:
        a: A, [k, r, d_in].
        b: B, [k, d_out, r].

    Attributes:
        a_t: A^T of each client; b_t likewise.
    """

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.a_t = Stack.of(a), Stack.of(a.mT)
        self.b, self.b_t = Stack.of(b), Stack.of(b.mT)


def add_products(
    y: Tensor, x: Tensor, right: Stack, rows: ClientRows, scale: float = 1.0
) -> Tensor:
    """Add each client's ``scale * x right`` to its part of ``y``, [n, d_out], in place.

    Args:
        y: where to add.
        x: [n, d].
        right: [k, d, d_out].
        rows: whose the tokens are.
        scale: factor.
    """
    if rows.is_even:
        shape = (len(rows.sizes), rows.sizes[0], -1)
        y.view(shape).baddbmm_(x.view(shape), right.whole, alpha=scale)
        return y
    parts = y.split_with_sizes(rows.sizes), x.split_with_sizes(rows.sizes), right.parts
    for target, part, one in zip(*parts, strict=True):
        target.addmm_(part, one, alpha=scale)
    return y


def products(x: Tensor, right: Stack, rows: ClientRows) -> Tensor:
    """Return each client's ``x right``, [n, d_out]; arguments as of :func:`add_products`."""
    if rows.is_even:
        return torch.bmm(x.view(len(rows.sizes), rows.sizes[0], -1), right.whole).flatten(0, 1)
    found = x.new_empty(x.shape[0], right.whole.shape[2])
    parts = found.split_with_sizes(rows.sizes), x.split_with_sizes(rows.sizes), right.parts
    for target, part, one in zip(*parts, strict=True):
        torch.mm(part, one, out=target)
    return found


def sums_of_products(left: Tensor, right: Tensor, rows: ClientRows) -> Tensor:
    """Return each client's ``left^T right``, [k, d, d_out], for [n, d] and [n, d_out]."""
    found = left.new_empty(len(rows.sizes), left.shape[1], right.shape[1])
    # Parts of the transposed matrix are its columns.
    parts = left.t().split_with_sizes(rows.sizes, 1), right.split_with_sizes(rows.sizes)
    for target, one, other in zip(found.unbind(), *parts, strict=True):
        torch.mm(one, other, out=target)
    return found


def sums(x: Tensor, rows: ClientRows) -> Tensor:
    """Return the sum of each client's tokens, [k, d]."""
    if rows.is_even:
        return x.view(len(rows.sizes), rows.sizes[0], -1).sum(1)
    return torch.stack([part.sum(0) for part in x.split_with_sizes(rows.sizes)])


class StackedCoLoraPass(Function):
    """Compute ``y = W x + b + s B (P A x + Q)`` of k clients, each with its own P, Q and gate."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        p_local: Tensor,
        q_local: Tensor | None,
        p_global: Tensor | None,
        q_global: Tensor | None,
        beta: Tensor | None,
        scale: float,
        rows: ClientRows,
        product: Product,
    ) -> Tensor:
        """Compute the output [n, d_out]; ``beta`` is None for a single adapter."""
        z = product(x, a, None)
        p, q, g = p_local, q_local, None
        if beta is not None:
            g = torch.sigmoid(beta)
            p = torch.lerp(p_local, p_global, g[..., None])  # type: ignore[arg-type]
            q = None if q_local is None else torch.lerp(q_local, q_global, g)  # type: ignore[arg-type]
        u = products(z, Stack.of(p.mT), rows)
        if q is not None:
            for part, own in zip(u.split_with_sizes(rows.sizes), q.unbind(), strict=True):
                part.add_(own)
        if weight is None:
            y = product(u, b, None).mul_(scale)
        else:
            y = product(x, weight, bias).addmm_(u, b.t(), alpha=scale)
        ctx.save_for_backward(z, weight, a, b, p, p_local, q_local, p_global, q_global, g)
        ctx.scale, ctx.rows, ctx.product = scale, rows, product
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of x, P_l, Q_l and beta."""
        z, weight, a, b, p, p_local, q_local, p_global, q_global, g = ctx.saved_tensors
        need_x, need_p, need_q, need_beta = (ctx.needs_input_grad[i] for i in (0, 5, 6, 9))
        dx = dp = dq = dbeta = None
        with without_autocast(grad.device.type):
            grad = grad.contiguous()
            v = ctx.product(grad, b.t(), None)
            if need_p or need_q or need_beta:
                dp = sums_of_products(v, z, ctx.rows).mul_(ctx.scale)
                dq = None if q_local is None else sums(v, ctx.rows).mul_(ctx.scale)
                if g is not None:
                    dbeta = (dp * (p_global - p_local)).sum((1, 2), keepdim=True)[..., 0]
                    if dq is not None:
                        dbeta = dbeta + (dq * (q_global - q_local)).sum(1, keepdim=True)
                        dq = dq.mul_(1 - g)
                    dbeta, dp = dbeta * g * (1 - g), dp.mul_((1 - g)[..., None])
            if need_x:
                w = products(v, Stack.of(p), ctx.rows)
                if weight is None:
                    dx = torch.mm(w, a).mul_(ctx.scale)
                else:
                    dx = ctx.product(grad, weight.t(), None).addmm_(w, a, alpha=ctx.scale)
        return dx, None, None, None, None, dp, dq, None, None, dbeta, None, None, None


class StackedLoraPass(Function):
    """Compute ``y = W x + b + s B A x`` of k clients, each with its own A, B and gate.

    For the pair A is ``[A_l; A_g]``, B is ``[(1 - g) s_l B_l, g s_g B_g]`` and s is 1. With
    ``V = (dL/dy) B`` and ``z = A x``::

        dA_l = V_l^T x    dB_l = (1 - g) s_l (dL/dy)^T z_l
        dbeta = (1 - g) <V_g, z_g> - g <V_l, z_l>
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        stacks: LoraStacks,
        a_local: Tensor,
        b_local: Tensor,
        beta: Tensor | None,
        g: Tensor | None,
        scale: float,
        rows: ClientRows,
        product: Product,
    ) -> Tensor:
        """Compute the output [n, d_out].

        Args:
            ctx: autograd's.
            x: input.
            weight: W; None: return the change of the output alone.
            bias: b.
            stacks: A and B, of the pair or the single adapter.
            a_local: A_l, for its gradient.
            b_local: B_l, likewise.
            beta: the gate's parameter; None for a single adapter.
            g: the gate, [k, 1].
            scale: s_l, also for the pair.
            rows: whose the tokens are.
            product: computes products with W.
        """
        z = products(x, stacks.a_t, rows)
        alpha = scale if g is None else 1.0
        if weight is None:
            y = products(z, stacks.b_t, rows).mul_(alpha)
        else:
            y = add_products(product(x, weight, bias), z, stacks.b_t, rows, alpha)
        ctx.save_for_backward(x if ctx.needs_input_grad[4] else None, z, weight, g)
        ctx.scale, ctx.rows, ctx.product = scale, rows, product
        ctx.rank, ctx.stacks = a_local.shape[1], stacks
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of x, A_l, B_l and beta."""
        x, z, weight, g = ctx.saved_tensors
        need_x, need_a, need_b, need_beta = (ctx.needs_input_grad[i] for i in (0, 4, 5, 6))
        r, rows, alpha = ctx.rank, ctx.rows, ctx.scale if g is None else 1.0
        dx = da = db = dbeta = None
        with without_autocast(grad.device.type):
            grad = grad.contiguous()
            v = products(grad, ctx.stacks.b, rows)
            if need_b:
                db = sums_of_products(grad, z[:, :r], rows)
                db.mul_(ctx.scale if g is None else ((1 - g) * ctx.scale)[..., None])
            if need_beta:
                found = sums(v * z, rows)
                local, received = found[:, :r], found[:, r:]
                dbeta = received.sum(1, keepdim=True) * (1 - g) - local.sum(1, keepdim=True) * g
            if need_a:
                da = sums_of_products(v[:, :r], x, rows).mul_(alpha)
            if need_x:
                if weight is None:
                    dx = products(v, ctx.stacks.a, rows).mul_(alpha)
                else:
                    dx = ctx.product(grad, weight.t(), None)
                    dx = add_products(dx, v, ctx.stacks.a, rows, alpha)
        return dx, None, None, None, da, db, dbeta, None, None, None, None
