"""The two low-rank passes as autograd functions with closed-form gradients.

Autograd would treat each branch on its own: two matmuls with A, two with B, large temporaries for the scaled sum, and
gradients of frozen tensors where it cannot know better. Here the gated pair is one pass, added in place to the output
of the frozen linear layer.

Shapes: x ``[..., d_in]``, W ``[d_out, d_in]``, A ``[r, d_in]``, B ``[d_out, r]``, P ``[r, r]``, Q ``[r]``, beta a
    scalar. n is the
number of tokens. Without W only the change of the layer's output is computed, for base layers that are not plain linear
ones. Gradients are given for x, the local adapter and beta, never for W, the frozen A and B of Co-LoRA, or the global
adapter.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Switch autocast off inside: the passes get tensors of one dtype, and in-place products take no other."""
    return (
        torch.autocast(device, enabled=False)
        if torch.is_autocast_enabled(device)
        else nullcontext()
    )


def _base(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """``W x + b``, or nothing without W."""
    if weight is None:
        return None
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())


def _onto(target: Tensor | None, left: Tensor, right: Tensor, scale: float) -> Tensor:
    """``target + scale * left @ right`` in the memory of ``target``, or the product alone."""
    return (
        torch.mm(left, right).mul_(scale)
        if target is None
        else target.addmm_(left, right, alpha=scale)
    )


class CoLoraPass(Function):
    """``y = W x + b + s B (P A x + Q)``, for a pair with ``P = (1 - g) P_l + g P_g``, likewise Q, and ``g =
    sigmoid(beta)``.

    Because the pair shares A and B, mixing P and Q is mixing the branches (method: FedMosaic, arXiv 2506.11024, eq. of
    the gated layer). With ``V = (dL/dy) B``: ``dP = s V^T (A x)``, ``dQ = s sum V``, ``dx = (dL/dy) W + s (V P) A``;
    the local adapter gets ``(1 - g)`` of them and ``dbeta = g (1 - g) (<dP, P_g - P_l> + <dQ, Q_g - Q_l>)``. Saves A x
    (n x r), not x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        p_local: Tensor,
        q_local: Tensor,
        p_global: Tensor | None,
        q_global: Tensor | None,
        beta: Tensor | None,
        scale: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        z = torch.mm(rows, a.t())
        if beta is None:
            p, q, g = p_local, q_local, None
        else:
            g = torch.sigmoid(beta)
            p, q = torch.lerp(p_local, p_global, g), torch.lerp(q_local, q_global, g)  # type: ignore[arg-type]
        u = torch.addmm(q, z, p.t())
        y = _onto(_base(rows, weight, bias), u, b.t(), scale)
        ctx.save_for_backward(z, weight, a, b, p, p_local, q_local, p_global, q_global, g)
        ctx.scale, ctx.shape = scale, x.shape
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        z, weight, a, b, p, p_local, q_local, p_global, q_global, g = ctx.saved_tensors
        need_x, need_p, need_q, need_beta = (ctx.needs_input_grad[i] for i in (0, 5, 6, 9))
        dx = dp = dq = dbeta = None
        with without_autocast(grad.device.type):
            grad = grad.reshape(-1, grad.shape[-1])
            v = torch.mm(grad, b)
            if need_p or need_q or need_beta:
                dp, dq = torch.mm(v.t(), z).mul_(ctx.scale), v.sum(0).mul_(ctx.scale)
                if g is not None:
                    dbeta = torch.dot(dp.view(-1), (p_global - p_local).view(-1)) + torch.dot(
                        dq, q_global - q_local
                    )
                    dbeta, dp, dq = dbeta * g * (1 - g), dp.mul_(1 - g), dq.mul_(1 - g)
            if need_x:
                through_base = None if weight is None else torch.mm(grad, weight)
                dx = _onto(through_base, torch.mm(v, p), a, ctx.scale).view(ctx.shape)
        return dx, None, None, None, None, dp, dq, None, None, dbeta, None


class LoraPass(Function):
    """``y = W x + b + (1 - g) s_l B_l A_l x + g s_g B_g A_g x`` as one pass with the stacked ``[A_l; A_g]`` and ``[B_l,
    B_g]``.

    The gate is applied to the r-dimensional activations. With ``V = (dL/dy) [B_l, B_g]`` and ``z = [A_l; A_g] x``:
    ``dB_l = (1 - g) s_l (dL/dy)^T z_l``, ``dA_l = (1 - g) s_l V_l^T x``, ``dbeta = g (1 - g) (s_g <V_g, z_g> - s_l
    <V_l, z_l>)``. Without a global adapter: ordinary LoRA.
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
        rows = x.reshape(-1, x.shape[-1])
        ctx.scales, ctx.shape, ctx.rank = (scale_local, scale_global), x.shape, a_local.shape[0]
        a, b, factors = _stacked(a_local, b_local, a_global, b_global, beta, ctx.scales)
        z = torch.mm(rows, a.t())
        u = z if factors is None else z * factors
        y = _onto(_base(rows, weight, bias), u, b.t(), scale_local if factors is None else 1.0)
        kept = rows if ctx.needs_input_grad[3] else None
        ctx.save_for_backward(kept, z, weight, a_local, b_local, a_global, b_global, beta)
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        rows, z, weight, a_local, b_local, a_global, b_global, beta = ctx.saved_tensors
        need_x, need_a, need_b, need_beta = (ctx.needs_input_grad[i] for i in (0, 3, 4, 7))
        r, (scale_local, scale_global) = ctx.rank, ctx.scales
        dx = da = db = dbeta = None
        with without_autocast(grad.device.type):
            grad = grad.reshape(-1, grad.shape[-1])
            a, b, factors = _stacked(a_local, b_local, a_global, b_global, beta, ctx.scales)
            v = torch.mm(grad, b)
            if need_b:
                db = torch.mm(grad.t(), z[:, :r])
                db = db.mul_(scale_local if factors is None else factors[0])
            if need_beta:
                g = torch.sigmoid(beta)
                parts = (v * z).sum(0)
                dbeta = (
                    (parts[r:].sum() * scale_global - parts[:r].sum() * scale_local) * g * (1 - g)
                )
            alpha = scale_local if factors is None else 1.0
            if factors is not None:
                v.mul_(factors)
            if need_a:
                da = torch.mm(v[:, :r].t(), rows).mul_(alpha)
            if need_x:
                through_base = None if weight is None else torch.mm(grad, weight)
                dx = _onto(through_base, v, a, alpha).view(ctx.shape)
        return dx, None, None, da, db, None, None, dbeta, None, None


def _stacked(
    a_local: Tensor,
    b_local: Tensor,
    a_global: Tensor | None,
    b_global: Tensor | None,
    beta: Tensor | None,
    scales: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``[A_l; A_g]``, ``[B_l, B_g]`` and the factor of each of their r_l + r_g directions (None for a single
    adapter).
    """
    if a_global is None or b_global is None or beta is None:
        return a_local, b_local, None
    g = torch.sigmoid(beta).reshape(1)
    local, received = (
        ((1 - g) * scales[0]).expand(a_local.shape[0]),
        (g * scales[1]).expand(a_global.shape[0]),
    )
    return (
        torch.cat((a_local, a_global)),
        torch.cat((b_local, b_global), dim=1),
        torch.cat((local, received)),
    )
