"""Compute a decoder layer of Llama or Qwen2 with few operations, for evaluation on a CPU.

Small models spend half of a layer's time outside its products. Weights are copied for an evaluation
anyway (:mod:`fedmosaic.adapters.inference`), so the copies take in what is a fixed factor: the
scale of the norm before them, and the scale of the attention. Queries, keys and values are one
product. Their features are stored in the pairs that rotary embeddings turn, so that turning is one
complex product. Short sequences attend through plain matrix products, whose mask is prepared once
for all layers. The last layer is computed at the places whose logits are asked for.

Results differ from those of the layer itself in their last bits.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fedmosaic.models.fused_inputs import SharedInputs, current_places, used_tokens
from fedmosaic.models.packed import FrozenProduct

KINDS = ("LlamaDecoderLayer", "Qwen2DecoderLayer")
"""Classes of Transformers with the forward pass below. To add one, name it here and in the test of
the layers; the first input of a model is computed both ways, so a wrong one is found."""

SHORT = 160
"""Most keys for which plain matrix products are as fast as torch's attention."""

ROWS = 64
"""Products get a multiple of so many tokens: oneDNN makes code for each number of them."""

Weights = tuple[Tensor, Tensor | None]
WeightsOf = Callable[[nn.Module], Weights | None]
"""Function from a linear module to its weight and bias; None where they are not fixed."""


def fusable(layer: nn.Module) -> bool:
    """Return whether a decoder layer is of a known kind, and nothing hooks into it."""
    if type(layer).__name__ not in KINDS or not type(layer).__module__.startswith("transformers."):
        return False
    parts: Any = layer
    attention, inner = (
        parts.self_attn,
        [module for module in layer.modules() if module is not layer],
    )
    heads, size = attention.config.num_attention_heads, attention.head_dim
    return (
        "forward" not in vars(layer)
        and attention.config._attn_implementation == "sdpa"
        and getattr(attention, "sliding_window", None) is None
        and heads % attention.config.num_key_value_heads == 0
        and size % 2 == 0
        and not any(
            module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
            for module in inner
        )
    )


class FusedLayer:
    """Replace the ``forward`` of a decoder layer.

    Args:
        layer: A layer that is :func:`fusable`.
        weights: Returns weight and bias of one of its linear modules.
        take: Returns whether so many bytes of memory are left for copies, which then are taken.
        shared: One for all layers of the model.
    """

    def __init__(
        self, layer: Any, weights: WeightsOf, take: Callable[[int], bool], shared: SharedInputs
    ) -> None:
        self.layer = layer
        self.plain = layer.forward
        self._weights = weights
        self._take = take
        self.shared = shared
        attention = layer.self_attn
        self._size = int(attention.head_dim)
        self._key_heads = int(attention.config.num_key_value_heads)
        self._group = int(attention.config.num_attention_heads) // self._key_heads
        self.first = attention.layer_idx == 0
        self.last = attention.layer_idx == attention.config.num_hidden_layers - 1
        self.products: dict[str, FrozenProduct] | None = None
        self._made = False

    def __call__(self, hidden_states: Tensor, *args: Any, **given: Any) -> Any:
        """Return the hidden states after the layer."""
        if args or not self._takes(hidden_states, given):
            return self.plain(hidden_states, *args, **given)
        if self.shared.valid is None:
            if not self.first or given.get("past_key_values") is not None:
                return self.plain(hidden_states, **given)
            self.shared.valid = self._same_numbers(hidden_states, given)
        if not self.shared.valid or not self._make():
            return self.plain(hidden_states, **given)
        return self._forward(hidden_states, given)

    def _takes(self, x: Tensor, given: dict[str, Any]) -> bool:
        """Return whether the layer can compute with these arguments."""
        turning, mask = given.get("position_embeddings"), given.get("attention_mask")
        return (
            x.dtype == torch.float32
            and x.device.type == "cpu"
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and not self.layer.training
            and turning is not None
            and turning[0].dtype == torch.float32
            and turning[0].shape[-1] == self._size
            and (mask is None or (mask.dim() == 4 and mask.shape[1] == 1))
        )

    def _same_numbers(self, x: Tensor, given: dict[str, Any]) -> bool:
        """Return whether the layer gives the numbers of its own ``forward`` on its first input."""
        if not self._make():
            return True  # the layers stay as they are
        expected, found = self.plain(x, **given), self._forward(x, given)
        if isinstance(expected, Tensor) and expected.shape == found.shape:
            used = used_tokens(x, given.get("attention_mask"))
            difference = (expected - found)[used].abs().max()
            if bool(difference <= 1e-4 * expected[used].abs().max()):
                return True
        warnings.warn(
            f"layers of the class {type(self.layer).__name__} of this version of Transformers are "
            "not computed as in earlier ones, so evaluation runs them as they are, which is slower",
            stacklevel=2,
        )
        return False

    # --- weights ------------------------------------------------------------------------------
    def _make(self) -> bool:
        """Make the products if that was not tried before; return whether there are any."""
        if not self._made:
            self._made, self.products = True, self._new_products()
        return self.products is not None

    def _new_products(self) -> dict[str, FrozenProduct] | None:
        attention, mlp = self.layer.self_attn, self.layer.mlp
        modules = {name: getattr(attention, f"{name}_proj") for name in ("q", "k", "v", "o")}
        modules |= {name: getattr(mlp, f"{name}_proj") for name in ("gate", "up", "down")}
        found = {name: self._weights(module) for name, module in modules.items()}
        known = {name: weights for name, weights in found.items() if weights is not None}
        if len(known) < len(found) or not self._take(sum(w.nbytes for w, _ in known.values())):
            return None
        before = self.layer.input_layernorm.weight
        after = self.layer.post_attention_layernorm.weight
        q, k = self._in_pairs(known["q"], self._size**-0.5), self._in_pairs(known["k"], 1.0)
        # Of the last layer, few queries are computed, but all keys and values.
        parts = {"q": [q], "kv": [k, known["v"]]} if self.last else {"qkv": [q, k, known["v"]]}
        made = {name: _joined(part, before) for name, part in parts.items()}
        made |= {name: _joined([known[name]], after) for name in ("gate", "up")}
        made |= {name: FrozenProduct(*known[name]) for name in ("o", "down")}
        return made

    def _in_pairs(self, weights: Weights, factor: float) -> Weights:
        """Return weights whose outputs i and i + size/2 of each head are neighbours."""
        half = self._size // 2
        weight, bias = (
            None if value is None else value.unflatten(0, (-1, 2, half)).transpose(1, 2) * factor
            for value in weights
        )
        assert weight is not None
        return weight.flatten(0, 2), None if bias is None else bias.flatten(0, 2)

    # --- forward ------------------------------------------------------------------------------
    def _forward(self, x: Tensor, given: dict[str, Any]) -> Tensor:
        places = current_places() if self.last else None
        if places is None or given.get("past_key_values") is not None:
            return self._rest(self._attention(x, x, None, given), x)
        out = x.clone()  # the other places are not read
        if places.columns is not None:
            part = x[:, places.columns]
            found = self._attention(x, part, places.columns, given)
            out[:, places.columns] = self._rest(found, part)
        else:
            part = x.flatten(0, 1)[places.flat][None]
            found = self._attention(x, x, None, given).flatten(0, 1)[places.flat][None]
            out.view(-1, x.shape[-1])[places.flat] = self._rest(found, part)[0]
        return out

    def _rest(self, attended: Tensor, x: Tensor) -> Tensor:
        """Return the output of the layer [n, T, d] for that of its heads; x is its input there."""
        products, layer = self._products(), self.layer
        rows = products["o"](_filled(attended))
        _first(rows, x).add_(x)
        normed = _normed(rows[None], layer.post_attention_layernorm.variance_epsilon)
        inner = layer.mlp.act_fn(products["gate"](normed)).mul_(products["up"](normed))
        return _first(products["down"](inner, plus=rows), x)

    def _attention(
        self, x: Tensor, asking: Tensor, columns: Tensor | None, given: dict[str, Any]
    ) -> Tensor:
        """Return the output of all heads, [n, queries, heads * head size].

        Args:
            x: The input of the layer, [n, T, d].
            asking: The part of it that attends, [n, queries, d].
            columns: Its columns; None: all.
            given: The other arguments of the layer.
        """
        q, k, v = self._rotated(x, asking, columns, *given["position_embeddings"])
        cache = given.get("past_key_values")
        if cache is not None:
            own, number = (k.transpose(0, 1), v.transpose(0, 1)), self.layer.self_attn.layer_idx
            k, v = (every.transpose(0, 1) for every in cache.update(*own, number))
        heads, n, group, queries, size = q.shape
        keys, given_mask = k.shape[2], given.get("attention_mask")
        if keys <= SHORT:
            mask = self.shared.mask(given_mask, columns, (heads, n, group, queries, keys))
            scores = torch.baddbmm(
                mask.view(heads * n, group * queries, keys),
                q.view(heads * n, group * queries, size),
                k.reshape(heads * n, keys, size).transpose(1, 2),
            )
            found = torch.bmm(scores.softmax(-1), v.reshape(heads * n, keys, size)).view(q.shape)
        else:
            mask = self.shared.mask(given_mask, columns, (1, n, 1, queries, keys))
            k, v = (each[:, :, None].expand(heads, n, group, keys, size) for each in (k, v))
            found = scaled_dot_product_attention(q, k, v, mask, scale=1.0)
        return found.permute(1, 3, 0, 2, 4).flatten(2)

    def _rotated(
        self, x: Tensor, asking: Tensor, columns: Tensor | None, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries [heads, n, group, T, size], keys and values [heads, n, T, size]."""
        products, heads, size = self._products(), self._key_heads, self._size
        turning = self.shared.rotation(cos, sin)
        epsilon = self.layer.input_layernorm.variance_epsilon
        normed, width = _normed(x, epsilon), heads * size
        if "qkv" in products:
            every = _first(products["qkv"](normed), x)
            q, k, v = every.split([self._group * width, width, width], -1)
        else:
            k, v = _first(products["kv"](normed), x).chunk(2, -1)
            q = _first(
                products["q"](normed if columns is None else _normed(asking, epsilon)), asking
            )
        pairs = q.unflatten(-1, (heads, self._group, size // 2, 2)).permute(2, 0, 3, 1, 4, 5)
        own = turning if columns is None else turning[:, columns]
        keys = k.unflatten(-1, (heads, size // 2, 2)).permute(2, 0, 1, 3, 4)
        values = v.unflatten(-1, (heads, size)).permute(2, 0, 1, 3)
        return _multiplied(pairs, own[None, :, None]), _multiplied(keys, turning[None]), values

    def _products(self) -> dict[str, FrozenProduct]:
        assert self.products is not None
        return self.products


def _joined(parts: list[Weights], scale: Tensor) -> FrozenProduct:
    """Return the product with several weights together, whose inputs are scaled."""
    weight = torch.cat([weight for weight, _ in parts]).mul_(scale)
    if all(bias is None for _, bias in parts):
        return FrozenProduct(weight)
    biases = [weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in parts]
    return FrozenProduct(weight, torch.cat(biases))


def _rows(x: Tensor) -> Tensor:
    """Return room for the tokens of x [n, T, d] as rows of a product; those that fill up are 0."""
    count = x.shape[0] * x.shape[1]
    rows = x.new_empty(-(-count // ROWS) * ROWS, x.shape[2])
    rows[count:] = 0
    return rows


def _filled(x: Tensor) -> Tensor:
    """Return the tokens of x [n, T, d] as rows of a product."""
    rows = _rows(x)
    _first(rows, x).copy_(x)
    return rows


def _first(rows: Tensor, x: Tensor) -> Tensor:
    """Return the rows that are tokens of x [n, T, …], as [n, T, d]."""
    return rows[: x.shape[0] * x.shape[1]].view(*x.shape[:2], -1)


def _normed(x: Tensor, epsilon: float) -> Tensor:
    """Return x over its root mean square as rows of a product, without a scale."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.mul_(1 / math.sqrt(x.shape[-1])).square_().add_(epsilon).rsqrt_()
    rows = _rows(x)
    torch.mul(x, scale, out=_first(rows, x))
    return rows


def _multiplied(pairs: Tensor, factors: Tensor) -> Tensor:
    """Return pairs [..., m, 2] times complex factors [..., m], contiguous [..., 2 m]."""
    numbers = torch.view_as_complex(pairs)
    out = torch.empty(numbers.shape, dtype=numbers.dtype)
    rotated: Tensor = torch.mul(numbers, factors, out=out)
    return torch.view_as_real(rotated).flatten(-2)
