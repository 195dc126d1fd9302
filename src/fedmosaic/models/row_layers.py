"""Compute decoder layers of Llama and Qwen2 on one row of examples, in few operations, to train.

The layer's linear modules are called as ever, so that adapters work. In between, norms and rotary
embeddings have gradients in closed form: small models spend a third of a step there otherwise.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu
from transformers.activations import ACT2FN

from fedmosaic.models.fused_layer import KINDS
from fedmosaic.models.row_attention import RowAttention, is_short

SILU = type(ACT2FN["silu"])

_found: weakref.WeakKeyDictionary[nn.Module, list[Any]] = weakref.WeakKeyDictionary()


@contextmanager
def row_layers(model: nn.Module) -> Iterator[None]:
    """Let the layers that are known compute rows of examples as above inside the block."""
    with ExitStack() as stack:
        for layer in _layers(model):
            if _is_known(layer):
                layer.forward = partial(_forward, layer, layer.forward)
                stack.callback(delattr, layer, "forward")
        yield


def _layers(model: nn.Module) -> list[Any]:
    if model not in _found:
        _found[model] = [module for module in model.modules() if type(module).__name__ in KINDS]
    return _found[model]


def _is_known(layer: Any) -> bool:
    """Return whether a layer is one of Transformers' own, frozen, and nothing hooks into it."""
    attention, mlp = layer.self_attn, layer.mlp
    norms = layer.input_layernorm, layer.post_attention_layernorm
    return (
        type(layer).__module__.startswith("transformers.")
        and "forward" not in vars(layer)
        and getattr(attention, "sliding_window", None) is None
        and isinstance(mlp.act_fn, (nn.SiLU, SILU))
        and not any(norm.weight.requires_grad for norm in norms)
        and not any(
            part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
            for part in (attention, mlp, *norms)
        )
    )


def _forward(layer: Any, plain: Callable[..., Any], hidden_states: Tensor, **given: Any) -> Any:
    """Return the hidden states after a layer, [1, tokens, d]."""
    examples, rotary = given.get("examples"), given.get("position_embeddings")
    if (
        examples is None
        or rotary is None
        or given.get("past_key_values") is not None
        or not is_short(hidden_states, examples)
    ):
        return plain(hidden_states, **given)
    attention, mlp, x = layer.self_attn, layer.mlp, hidden_states
    before, after = layer.input_layernorm, layer.post_attention_layernorm
    normed = RowNorm.apply(x, before.weight, before.variance_epsilon)  # type: ignore[no-untyped-call]
    q, k, v = (
        product(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for product in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    heads = RowAttention.apply(q, k, v, examples, attention.scaling, rotary)  # type: ignore[no-untyped-call]
    x = x + attention.o_proj(heads.flatten(2))
    normed = RowNorm.apply(x, after.weight, after.variance_epsilon)  # type: ignore[no-untyped-call]
    return x + mlp.down_proj(silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))


class RowNorm(Function):
    """Compute ``w x / rms(x)`` for a frozen weight, [..., d].

    With ``f = 1 / rms(x)`` and ``h = w dL/dy`` the gradient is ``f h - f^3 x <h, x> / d``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Compute the output."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        factor = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, factor)
        return torch.mul(x, factor).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        """Compute the gradient of x."""
        x, weight, factor = ctx.saved_tensors
        change = grad * weight
        along = (change * x).sum(-1, keepdim=True)
        along.mul_(factor).mul_(factor).mul_(factor).div_(-x.shape[-1])
        return change.mul_(factor).addcmul_(x, along), None, None
