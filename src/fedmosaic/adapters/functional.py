"""Compute the change of a layer's output by adapters: plainly, and as one autograd function.

``colora_change`` and ``lora_change`` write the formulas out; they are the reference. ``CoLoraPass``
and ``LoraPass`` compute the same for one adapter or for the gated pair, with gradients in closed
form. Autograd would treat each adapter of the pair on its own: two products with A, two with B,
large temporaries for the scaled sum, and gradients of tensors that are frozen. Here the pair is one
pass, added in place to the output of the frozen linear layer.

Shapes: x ``[..., d_in]``, W ``[d_out, d_in]``, A ``[r, d_in]``, B ``[d_out, r]``, P ``[r, r]``,
Q ``[r]`` (None: adapters without Q), beta ``[1]``; n is the number of tokens. Without W the passes
return only the change of the output, for base layers that are not plain linear layers. With
``frozen`` the products with W are computed by it, with the same bits. They give
gradients for x, the local adapter and beta, never for W, the frozen A and B of Co-LoRA or the
global adapter.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from fedmosaic.adapters.frozen_products import FrozenProducts


def colora_change(
    x: Tensor, a: Tensor, b: Tensor, p: Tensor, q: Tensor | None, scale: float
) -> Tensor:
    """Return ``s B (P A x + Q)``, the change of output of one Co-LoRA adapter (reference)."""
    return linear(linear(linear(x, a), p, q), b) * scale


def lora_change(x: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return ``s B A x``, the change of output of one ordinary LoRA adapter (reference)."""
    return linear(linear(x, a), b) * scale


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Switch autocast off inside the block; products in place need all tensors in one dtype."""
    return (
        torch.autocast(device, enabled=False)
        if torch.is_autocast_enabled(device)
        else nullcontext()
    )


class CoLoraPass(Function):
    """Compute ``y = W x + b + s B (P A x + Q)`` for one adapter or the scalar-gated pair.

    For the pair ``P = (1 - g) P_l + g P_g``, likewise Q, with ``g = sigmoid(beta)``: both adapters
    share A and B, so mixing P and Q is mixing their outputs (FedMosaic, arXiv 2506.11024, equation
    of the gated layer). With ``V = (dL/dy) B``::

        dP = s V^T (A x)    dQ = s sum V    dx = (dL/dy) W + s (V P) A
        dbeta = g (1 - g) (<dP, P_g - P_l> + <dQ, Q_g - Q_l>)

    The local adapter gets ``(1 - g)`` of dP and dQ. Saved for the backward pass is A x (n x r),
    not x (n x d_in).
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
        q_local: Tensor | None,
        p_global: Tensor | None,
        q_global: Tensor | None,
        beta: Tensor | None,
        scale: float,
        frozen: FrozenProducts | None = None,
    ) -> Tensor:
        """Compute the output; ``beta`` is None for a single adapter, then called the local one."""
        rows = x.reshape(-1, x.shape[-1])
        z = torch.mm(rows, a.t())
        p, q, g, rest = p_local, q_local, None, None
        if beta is not None:
            g = torch.sigmoid(beta)
            rest = 1 - g
            p = torch.lerp(p_local, p_global, g)  # type: ignore[arg-type]
            q = None if q_local is None else torch.lerp(q_local, q_global, g)  # type: ignore[arg-type]
        u = torch.mm(z, p.t()) if q is None else torch.addmm(q, z, p.t())
        y = _add_product(frozen_output(rows, weight, bias, frozen), u, b.t(), scale)
        ctx.save_for_backward(z, weight, a, b, p, p_local, q_local, p_global, q_global, g, rest)
        ctx.scale, ctx.shape, ctx.frozen = scale, x.shape, frozen
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of x, P_l, Q_l and beta."""
        z, weight, a, b, p, p_local, q_local, p_global, q_global, g, rest = ctx.saved_tensors
        need_x, need_p, need_q, need_beta = (ctx.needs_input_grad[i] for i in (0, 5, 6, 9))
        dx = dp = dq = dbeta = None
        with without_autocast(grad.device.type):
            grad = grad.reshape(-1, grad.shape[-1])
            v = torch.mm(grad, b)
            if need_p or need_q or need_beta:
                dp = torch.mm(v.t(), z).mul_(ctx.scale)
                dq = None if q_local is None else v.sum(0).mul_(ctx.scale)
                if g is not None:
                    dbeta = torch.dot(dp.view(-1), (p_global - p_local).view(-1))
                    if dq is not None:
                        dbeta, dq = dbeta + torch.dot(dq, q_global - q_local), dq.mul_(rest)
                    dbeta, dp = dbeta * g * rest, dp.mul_(rest)
            if need_x:
                through_base = frozen_gradient(grad, weight, ctx.frozen)
                dx = _add_product(through_base, torch.mm(v, p), a, ctx.scale).view(ctx.shape)
        return dx, None, None, None, None, dp, dq, None, None, dbeta, None, None


class LoraPass(Function):
    """Compute ``y = W x + b + (1 - g) s_l B_l A_l x + g s_g B_g A_g x`` for LoRA, pair or single.

    Both adapters are stacked to ``[A_l; A_g]`` and ``[B_l, B_g]``, and the gate is applied to the
    activations between them. With ``V = (dL/dy) [B_l, B_g]`` and ``z = [A_l; A_g] x``::

        dB_l = (1 - g) s_l (dL/dy)^T z_l    dA_l = (1 - g) s_l V_l^T x
        dbeta = g (1 - g) (s_g <V_g, z_g> - s_l <V_l, z_l>)

    Without a global adapter this is ordinary LoRA. What the pair is stacked to is saved for the
    backward pass: r_l + r_g rows of d_in and of d_out values.
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
        frozen: FrozenProducts | None = None,
    ) -> Tensor:
        """Compute the output; ``beta`` is None for a single adapter, then called the local one."""
        rows = x.reshape(-1, x.shape[-1])
        ctx.scales, ctx.shape, ctx.rank = (scale_local, scale_global), x.shape, a_local.shape[0]
        ctx.frozen = frozen
        a, b, factors, *gates = _stacked(a_local, b_local, a_global, b_global, beta, ctx.scales)
        z = torch.mm(rows, a.t())
        u = z if factors is None else z * factors
        alpha = scale_local if factors is None else 1.0
        y = _add_product(frozen_output(rows, weight, bias, frozen), u, b.t(), alpha)
        saved_rows = rows if ctx.needs_input_grad[3] else None
        ctx.save_for_backward(saved_rows, z, weight, a, b, factors, *gates)
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of x, A_l, B_l and beta."""
        rows, z, weight, a, b, factors, g, rest = ctx.saved_tensors
        need_x, need_a, need_b, need_beta = (ctx.needs_input_grad[i] for i in (0, 3, 4, 7))
        r, (scale_local, scale_global) = ctx.rank, ctx.scales
        dx = da = db = dbeta = None
        with without_autocast(grad.device.type):
            grad = grad.reshape(-1, grad.shape[-1])
            v = torch.mm(grad, b)
            if need_b:
                db = torch.mm(grad.t(), z[:, :r])
                db = db.mul_(scale_local if factors is None else factors[0])
            if need_beta:
                parts = (v * z).sum(0)
                change = parts[r:].sum() * scale_global - parts[:r].sum() * scale_local
                dbeta = change * g * rest
            alpha = scale_local if factors is None else 1.0
            if factors is not None:
                v.mul_(factors)
            if need_a:
                da = _scaled(torch.mm(v[:, :r].t(), rows), alpha)
            if need_x:
                through_base = frozen_gradient(grad, weight, ctx.frozen)
                dx = _add_product(through_base, v, a, alpha).view(ctx.shape)
        return dx, None, None, da, db, None, None, dbeta, None, None, None


def _stacked(
    a_local: Tensor,
    b_local: Tensor,
    a_global: Tensor | None,
    b_global: Tensor | None,
    beta: Tensor | None,
    scales: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return ``[A_l; A_g]``, ``[B_l, B_g]``, their r_l + r_g directions' factors, g and 1 - g.

    For a single adapter these are its own A and B, and None.
    """
    if a_global is None or b_global is None or beta is None:
        return a_local, b_local, None, None, None
    g = torch.sigmoid(beta)
    rest = 1 - g
    factors = torch.cat(
        ((rest * scales[0]).expand(a_local.shape[0]), (g * scales[1]).expand(a_global.shape[0]))
    )
    return torch.cat((a_local, a_global)), torch.cat((b_local, b_global), dim=1), factors, g, rest


def frozen_output(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, frozen: FrozenProducts | None
) -> Tensor | None:
    """Return ``W x + b``, or None without W."""
    if weight is None:
        return None
    if frozen is not None:
        return frozen.output(x)
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())


def frozen_gradient(
    grad: Tensor, weight: Tensor | None, frozen: FrozenProducts | None
) -> Tensor | None:
    """Return ``(dL/dy) W``, or None without W."""
    if weight is None:
        return None
    return torch.mm(grad, weight) if frozen is None else frozen.gradient(grad)


def _add_product(target: Tensor | None, left: Tensor, right: Tensor, scale: float) -> Tensor:
    """Add ``scale * left @ right`` to ``target`` in place, or return the product alone."""
    return (
        _scaled(torch.mm(left, right), scale)
        if target is None
        else target.addmm_(left, right, alpha=scale)
    )


def _scaled(product: Tensor, scale: float) -> Tensor:
    """Multiply in place."""
    return product if scale == 1.0 else product.mul_(scale)
