"""Compute the change of a layer's output by the adapters of k clients in one pass.

The batch holds the rows of all clients, grouped by client, and the adapters are stacked along a
leading dimension. The product with the frozen weight is one for all rows; only the small products
with what differs between clients are batched by client. The formulas and gradients are those of
``functional.CoLoraPass`` and ``functional.LoraPass``, client by client.

Shapes: x ``[k, n, d_in]``, n tokens a client; P ``[k, r, r]``, Q ``[k, r]``, beta ``[k, 1]``;
LoRA's A ``[k, r, d_in]``, B ``[k, d_out, r]``. W ``[d_out, d_in]`` and Co-LoRA's A ``[r, d_in]``,
B ``[d_out, r]`` belong to all clients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from fedmosaic.adapters.functional import without_autocast
from fedmosaic.models.packed import pays


def frozen_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x W^T + b`` without a gradient, through oneDNN where that is faster.

    The weight stays in torch's layout, which costs oneDNN a few percent and no memory.

    Args:
        x: ``[n, d_in]``.
        weight: W, ``[d_out, d_in]``; it may be a transposed view.
        bias: b, ``[d_out]``.
    """
    if not pays(weight):
        return linear(x, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


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
    ) -> Tensor:
        """Compute the output [k, n, d_out]; ``beta`` is None for a single adapter."""
        k, n, _ = x.shape
        rows = x.reshape(k * n, -1)
        z = frozen_product(rows, a).view(k, n, -1)
        p, q, g = p_local, q_local, None
        if beta is not None:
            g = torch.sigmoid(beta)
            p = torch.lerp(p_local, p_global, g[..., None])  # type: ignore[arg-type]
            q = None if q_local is None else torch.lerp(q_local, q_global, g)  # type: ignore[arg-type]
        u = torch.bmm(z, p.mT) if q is None else torch.baddbmm(q[:, None], z, p.mT)
        u = u.view(k * n, -1)
        if weight is None:
            y = frozen_product(u, b).mul_(scale)
        else:
            y = frozen_product(rows, weight, bias).addmm_(u, b.t(), alpha=scale)
        ctx.save_for_backward(z, weight, a, b, p, p_local, q_local, p_global, q_global, g)
        ctx.scale = scale
        return y.view(k, n, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of x, P_l, Q_l and beta."""
        z, weight, a, b, p, p_local, q_local, p_global, q_global, g = ctx.saved_tensors
        need_x, need_p, need_q, need_beta = (ctx.needs_input_grad[i] for i in (0, 5, 6, 9))
        dx = dp = dq = dbeta = None
        k, n, _ = grad.shape
        with without_autocast(grad.device.type):
            rows = grad.reshape(k * n, -1)
            v = frozen_product(rows, b.t()).view(k, n, -1)
            if need_p or need_q or need_beta:
                dp = torch.bmm(v.mT, z).mul_(ctx.scale)
                dq = None if q_local is None else v.sum(1).mul_(ctx.scale)
                if g is not None:
                    dbeta = (dp * (p_global - p_local)).sum((1, 2), keepdim=True)[..., 0]
                    if dq is not None:
                        dbeta = dbeta + (dq * (q_global - q_local)).sum(1, keepdim=True)
                        dq = dq.mul_(1 - g)
                    dbeta, dp = dbeta * g * (1 - g), dp.mul_((1 - g)[..., None])
            if need_x:
                w = torch.bmm(v, p).view(k * n, -1)
                if weight is None:
                    dx = torch.mm(w, a).mul_(ctx.scale)
                else:
                    dx = frozen_product(rows, weight.t()).addmm_(w, a, alpha=ctx.scale)
                dx = dx.view(k, n, -1)
        return dx, None, None, None, None, dp, dq, None, None, dbeta, None


class StackedLoraPass(Function):
    """Compute ``y = W x + b + sum of f_i B_i A_i x`` of k clients, each with its own A, B and gate.

    The sum is over the local and the global adapter, with ``f_l = (1 - g) s_l`` and
    ``f_g = g s_g``. Without a global adapter this is ordinary LoRA with ``f_l = s_l``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        a_local: Tensor,
        b_local: Tensor,
        a_global: Tensor | None,
        b_global: Tensor | None,
        beta: Tensor | None,
        scale_local: float,
        scale_global: float,
    ) -> Tensor:
        """Compute the output [k, n, d_out]; ``beta`` is None for a single adapter."""
        k, n, _ = x.shape
        ctx.scales, ctx.rank = (scale_local, scale_global), a_local.shape[1]
        a, b, factors = _pairs(a_local, b_local, a_global, b_global, beta, ctx.scales)
        z = torch.bmm(x, a.mT)
        u = z if factors is None else z * factors
        alpha = scale_local if factors is None else 1.0
        if weight is None:
            y = torch.bmm(u, b.mT).mul_(alpha)
        else:
            y = frozen_product(x.reshape(k * n, -1), weight, bias).view(k, n, -1)
            y.baddbmm_(u, b.mT, alpha=alpha)
        saved_x = x if ctx.needs_input_grad[3] else None
        ctx.save_for_backward(saved_x, z, weight, a, b, beta, factors)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of x, A_l, B_l and beta."""
        x, z, weight, a, b, beta, factors = ctx.saved_tensors
        need_x, need_a, need_b, need_beta = (ctx.needs_input_grad[i] for i in (0, 3, 4, 7))
        r, (scale_local, scale_global) = ctx.rank, ctx.scales
        dx = da = db = dbeta = None
        k, n, _ = grad.shape
        with without_autocast(grad.device.type):
            grad = grad.contiguous()
            v = torch.bmm(grad, b)
            if need_b:
                db = torch.bmm(grad.mT, z[..., :r])
                db = db.mul_(scale_local if factors is None else factors[..., :1])
            if need_beta:
                g = torch.sigmoid(beta)
                parts = (v * z).sum(1)
                change = parts[:, r:].sum(1, keepdim=True) * scale_global
                change = change - parts[:, :r].sum(1, keepdim=True) * scale_local
                dbeta = change * g * (1 - g)
            alpha = scale_local if factors is None else 1.0
            if factors is not None:
                v.mul_(factors)
            if need_a:
                da = torch.bmm(v[..., :r].mT, x).mul_(alpha)
            if need_x:
                if weight is None:
                    dx = torch.bmm(v, a).mul_(alpha)
                else:
                    dx = frozen_product(grad.view(k * n, -1), weight.t()).view(k, n, -1)
                    dx.baddbmm_(v, a, alpha=alpha)
        return dx, None, None, da, db, None, None, dbeta, None, None


def _pairs(
    a_local: Tensor,
    b_local: Tensor,
    a_global: Tensor | None,
    b_global: Tensor | None,
    beta: Tensor | None,
    scales: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return ``[A_l; A_g]``, ``[B_l, B_g]`` and their directions' factors, [k, 1, r_l + r_g].

    For a single adapter these are its own A and B, and None.
    """
    if a_global is None or b_global is None or beta is None:
        return a_local, b_local, None
    g = torch.sigmoid(beta)[:, None]
    factors = (
        ((1 - g) * scales[0]).expand(-1, 1, a_local.shape[1]),
        (g * scales[1]).expand(-1, 1, a_global.shape[1]),
    )
    return (
        torch.cat((a_local, a_global), 1),
        torch.cat((b_local, b_global), 2),
        torch.cat(factors, 2),
    )
