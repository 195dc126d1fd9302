"""Let decoder layers of Llama and Qwen2 train with fewer operations, with the very same numbers.

A step of a small model spends more time on starting operations than on computing them. Inside the
block of :func:`in_few_operations`, a layer is two autograd functions
(:mod:`fedmosaic.adapters.fused_passes`) with its own attention between them. Other layers, and
inputs of other kinds, stay as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from fedmosaic.adapters.fused_passes import (
    AfterAttention,
    BeforeAttention,
    Norm,
    Rotation,
)
from fedmosaic.adapters.linear_passes import LinearPasses
from fedmosaic.adapters.projections import Projection
from fedmosaic.models.fused_layer import fusable

ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")

_known: dict[tuple[type, ...], bool] = {}
"""Whether layers of these classes, with linear modules of these, gave their own numbers."""


def fused_layers(model: nn.Module) -> list[TrainedLayer]:
    """Return the layers of a model that can train with fewer operations.

    Args:
        model: A model with adapters as it trains: with its dropout, hooks and frozen weights.
    """
    shared = _LastRotation()
    return [TrainedLayer(module, shared) for module in model.modules() if trainable(module)]


@contextmanager
def in_few_operations(layers: Sequence[TrainedLayer]) -> Iterator[None]:
    """Compute these layers in few operations during the block."""
    for each in layers:
        each.layer.forward = each
    try:
        yield
    finally:
        for each in layers:
            del each.layer.forward


def trainable(layer: Any) -> bool:
    """Return whether a module is a decoder layer whose training can be fused."""
    if not fusable(layer) or layer.gradient_checkpointing or layer._compiled_call_impl is not None:
        return False
    scales = [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
    return (
        layer.self_attn.attention_dropout == 0
        and isinstance(layer.mlp.act_fn, (nn.SiLU, SiLUActivation))
        and all(
            scale.dtype == torch.float32 and scale.device.type == "cpu" and not scale.requires_grad
            for scale in scales
        )
        and _same_numbers(layer)
    )


class Passes(Protocol):
    """Find the pass of a linear module for each forward pass."""

    def projection(self) -> Projection | None:
        """Return it; None where the module has none."""


class TrainedLayer:
    """Replace the ``forward`` of a decoder layer.

    Args:
        layer: the layer.
        shared: one for all layers of the model.
        passes: passes of linear modules in the place of their own.
    """

    def __init__(
        self, layer: Any, shared: _LastRotation, passes: Mapping[Any, Passes] | None = None
    ) -> None:
        self.layer = layer
        self.plain = layer.forward
        self.shared = shared
        attention, mlp = layer.self_attn, layer.mlp
        modules = [getattr(attention, name) for name in ATTENTION]
        modules += [getattr(mlp, name) for name in MLP]
        self._parts = [attention, mlp, layer.input_layernorm, layer.post_attention_layernorm]
        self._parts += modules
        self.own_passes = [LinearPasses(module) for module in modules]
        self.modules = [(passes or {}).get(each.module, each) for each in self.own_passes]

    def with_passes(self, passes: Mapping[Any, Passes]) -> TrainedLayer:
        """Return the same for a layer whose linear modules compute in another way."""
        return TrainedLayer(self.layer, self.shared, passes)

    def __call__(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **given: Any,
    ) -> Any:
        """Return the hidden states after the layer."""
        found = None
        if past_key_values is None and position_embeddings is not None:
            found = self._projections(hidden_states)
        if found is None or position_embeddings is None:
            return self.plain(
                hidden_states,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_embeddings=position_embeddings,
                **given,
            )
        rotation = self.shared.of(*position_embeddings)
        return self._forward(hidden_states, attention_mask, rotation, found, given)

    def _projections(self, x: Tensor) -> list[Projection] | None:
        """Return the passes of the seven linear modules; None where one of them has none."""
        if (
            x.dtype != torch.float32
            or x.device.type != "cpu"
            or not torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or any(part._forward_hooks or part._forward_pre_hooks for part in self._parts)
        ):
            return None
        found = []
        for module in self.modules:
            projection = module.projection()
            if projection is None:
                return None
            found.append(projection)
        return found

    def _forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        rotation: Rotation,
        projections: list[Projection],
        given: dict[str, Any],
    ) -> Tensor:
        attention = self.layer.self_attn
        before, after = tuple(projections[:3]), tuple(projections[3:])
        q, k, v, *residual = BeforeAttention.apply(
            x,
            Norm.of(self.layer.input_layernorm),
            rotation,
            before,
            attention.head_dim,
            *_trained(before),
        )
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation]
        attended, _ = attend(
            attention,
            q,
            k,
            v,
            mask,
            dropout=0.0,
            scaling=attention.scaling,
            sliding_window=getattr(attention, "sliding_window", None),
            **given,
        )
        found: Tensor = AfterAttention.apply(
            attended.reshape(*x.shape[:2], -1),
            residual[0] if residual else x,
            Norm.of(self.layer.post_attention_layernorm),
            after,
            *_trained(after),
        )
        return found


class _LastRotation:
    """Hold the rotary embeddings of the last batch, which all layers share."""

    def __init__(self) -> None:
        self._given: tuple[Tensor, Tensor] | None = None

    def of(self, cos: Tensor, sin: Tensor) -> Rotation:
        """Return the rotation by these embeddings."""
        if self._given is None or self._given[0] is not cos or self._given[1] is not sin:
            self._given, self._made = (cos, sin), Rotation(cos, sin)
        return self._made


def _trained(projections: tuple[Projection, ...]) -> list[Tensor]:
    return [tensor for projection in projections for tensor in projection.plan.trained]


def _same_numbers(layer: Any) -> bool:
    """Return whether layers of that class give their own numbers, tried on the first one."""
    kind = type(layer)
    key = kind, *(type(each.module) for each in TrainedLayer(layer, _LastRotation()).own_passes)
    if key not in _known:
        _known[key] = _computes_alike(layer)
        if not _known[key]:
            warnings.warn(
                f"layers of the class {kind.__name__} of this version of Transformers are not "
                "computed as in earlier ones, so training runs them as they are, which is slower",
                stacklevel=2,
            )
    return _known[key]


def _computes_alike(layer: Any) -> bool:
    """Return whether output and gradients are equal in every bit on random hidden states."""
    draw = torch.Generator().manual_seed(0)
    attention = layer.self_attn
    x = torch.randn(2, 7, attention.q_proj.in_features, generator=draw)
    angles = torch.randn(1, 7, attention.head_dim, generator=draw)
    given: dict[str, Any] = {
        "attention_mask": None,
        "position_embeddings": (angles.cos(), angles.sin()),
    }
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    found = []
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        for forward in (layer.forward, TrainedLayer(layer, _LastRotation())):
            torch.manual_seed(0)
            inputs = [x.clone().requires_grad_(), *trained]
            out = forward(inputs[0], **given)
            weights = torch.randn(out.shape, generator=draw.manual_seed(1))
            grads = torch.autograd.grad((out * weights).sum(), inputs, allow_unused=True)
            found.append([out, *grads])
    return all(
        a is b or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(*found, strict=True)
    )
