"""Let attention take each example of one row of tokens by itself.

Examples of about the same length are padded together, on the right: with a causal mask no token
sees what follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "fedmosaic_rows"
"""Name of this attention in Transformers."""

SPREAD = 1.2
"""Largest ratio of lengths of examples that are padded together."""

WIDEST = 256
"""Tokens of an example up to which its attention weights are held for the backward pass."""


@dataclass(frozen=True)
class Group:
    """Hold examples that are padded together.

    Attributes:
        rows: number of examples.
        width: tokens of the longest.
        tokens: [rows * width], places in the row of tokens; padding has its example's last one.
        real: [rows * width], false at padding.
    """

    rows: int
    width: int
    tokens: Tensor
    real: Tensor


@dataclass(frozen=True)
class Tables:
    """Hold where the heads of tokens go, for a number of heads.

    Attributes:
        queries: for each head of each padded token, its place among the heads of all tokens.
        keys: the same for keys and values, which may have fewer heads.
        padding: places of padding among the heads of padded tokens.
        back: for each head of each token, its place among the heads of padded tokens.
    """

    queries: Tensor
    keys: Tensor
    padding: Tensor
    back: Tensor


class Examples:
    """Describe the examples in a row of tokens.

    Args:
        lengths: tokens of each example.
        device: where the row is.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = lengths
        self.device = device
        self._tables: dict[tuple[int, int], Tables] = {}
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}

    @cached_property
    def groups(self) -> list[Group]:
        """Return the examples in groups of about the same length."""
        starts = [0, *accumulate(self.lengths)]
        parts: list[list[int]] = []
        for number in sorted(range(len(self.lengths)), key=self.lengths.__getitem__):
            if not parts or self.lengths[number] > SPREAD * self.lengths[parts[-1][0]]:
                parts.append([])
            parts[-1].append(number)
        found = []
        for part in parts:
            lengths = torch.tensor([self.lengths[number] for number in part])[:, None]
            first = torch.tensor([starts[number] for number in part])[:, None]
            columns = torch.arange(int(lengths.max()))
            tokens = first + torch.minimum(columns, lengths - 1)
            real = columns < lengths
            found.append(Group(*real.shape, *(t.flatten().to(self.device) for t in (tokens, real))))
        return found

    def tables(self, heads: int, key_heads: int) -> Tables:
        """Return where the heads of tokens go."""
        if (heads, key_heads) not in self._tables:
            head = torch.arange(heads, device=self.device)[:, None]
            queries, keys, real = [], [], []
            for group in self.groups:
                tokens = group.tokens.view(-1, 1, group.width)
                queries.append((tokens * heads + head).flatten())
                keys.append((tokens * key_heads + head // (heads // key_heads)).flatten())
                real.append(group.real.view(-1, 1, group.width).expand(-1, heads, -1).flatten())
            every, there = torch.cat(queries), torch.cat(real)
            places = there.nonzero()[:, 0]
            back = torch.empty_like(places)
            back[every[places]] = places
            padding = (~there).nonzero()[:, 0]
            self._tables[heads, key_heads] = Tables(every, torch.cat(keys), padding, back)
        return self._tables[heads, key_heads]

    def mask(self, width: int, dtype: torch.dtype) -> Tensor:
        """Return what is added to the products of queries and keys, [width, width]."""
        if (width, dtype) not in self._masks:
            later = torch.ones(width, width, dtype=torch.bool, device=self.device).triu(1)
            zeros = torch.zeros(width, width, dtype=dtype, device=self.device)
            self._masks[width, dtype] = zeros.masked_fill_(later, float("-inf"))
        return self._masks[width, dtype]

    def by_group(self, x: Tensor, heads: int) -> list[Tensor]:
        """Return heads of padded tokens as [rows * heads, width, d] of each group."""
        sizes = [group.rows * group.width * heads for group in self.groups]
        parts = zip(x.split(sizes), self.groups, strict=True)
        return [part.view(-1, group.width, x.shape[-1]) for part, group in parts]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    examples: Examples,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Return the output of causal attention inside each example, [1, tokens, heads, d].

    Args:
        module: the attention of a model of Transformers.
        query: [1, heads, tokens, d].
        key: [1, heads of keys, tokens, d].
        value: as ``key``.
        attention_mask: not used.
        examples: the examples in the row.
        dropout: share of attention weights that are dropped.
        scaling: factor on the products of queries and keys.
        others: what the model's usual attention takes.
    """
    if query.dtype == key.dtype and not dropout and is_short(query, examples):
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        return RowAttention.apply(query, key, value, examples, factor), None  # type: ignore[no-untyped-call]
    usual = ALL_ATTENTION_FUNCTIONS["sdpa"]
    arguments = others | {"dropout": dropout, "scaling": scaling, "is_causal": True}
    parts = []
    for group in examples.groups:
        taken = (
            x[0].index_select(1, group.tokens).unflatten(1, (-1, group.width)).transpose(0, 1)
            for x in (query, key, value)
        )
        parts.append(usual(module, *taken, None, **arguments)[0].flatten(0, 1)[group.real])
    found = torch.cat(parts)
    places = torch.cat([group.tokens[group.real] for group in examples.groups])
    return torch.empty_like(found).index_copy(0, places, found)[None], None


def is_short(x: Tensor, examples: Examples) -> bool:
    """Return whether plain products are the fastest way for examples, in the dtype of x."""
    exact = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return exact and max(examples.lengths) <= WIDEST


class RowAttention(Function):
    """Compute causal attention by plain products, which for short examples is the fastest way."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        examples: Examples,
        scaling: float,
    ) -> Tensor:
        """Compute the output, [1, tokens, heads, d]."""
        heads, key_heads, tokens = query.shape[1], key.shape[1], query.shape[2]
        tables = examples.tables(heads, key_heads)
        q = _heads(query).index_select(0, tables.queries).mul_(scaling)
        k, v = (_heads(x).index_select(0, tables.keys) for x in (key, value))
        out = v.new_empty(v.shape)
        weights = []
        parts = (examples.by_group(x, heads) for x in (q, k, v, out))
        for q_part, k_part, v_part, o_part in zip(*parts, strict=True):
            mask = examples.mask(q_part.shape[1], q.dtype)
            weights.append(torch.baddbmm(mask, q_part, k_part.mT).softmax(-1))
            torch.bmm(weights[-1], v_part, out=o_part)
        ctx.save_for_backward(q, k, v, *weights)
        ctx.examples, ctx.scaling, ctx.heads = examples, scaling, (heads, key_heads)
        return out.index_select(0, tables.back).view(1, tokens, heads, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Compute the gradients of queries, keys and values."""
        q, k, v, *weights = ctx.saved_tensors
        examples, (heads, key_heads), tokens = ctx.examples, ctx.heads, grad.shape[1]
        tables = examples.tables(heads, key_heads)
        grad = grad.reshape(tokens * heads, -1).index_select(0, tables.queries)
        grad.index_fill_(0, tables.padding, 0.0)
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        parts = (examples.by_group(x, heads) for x in (q, k, v, grad, dq, dk, dv))
        for p, (q_part, k_part, v_part, g, dq_part, dk_part, dv_part) in zip(
            weights, zip(*parts, strict=True), strict=True
        ):
            torch.bmm(p.mT, g, out=dv_part)
            ds = torch._softmax_backward_data(torch.bmm(g, v_part.mT), p, -1, p.dtype)
            torch.bmm(ds, k_part, out=dq_part)
            torch.bmm(ds.mT, q_part, out=dk_part)
        found = [x.index_select(0, tables.back).view(tokens, heads, -1) for x in (dq, dk, dv)]
        found[0].mul_(ctx.scaling)
        if heads != key_heads:
            found[1:] = [x.unflatten(1, (key_heads, -1)).sum(2) for x in found[1:]]
        return *(x.transpose(0, 1)[None] for x in found), None, None


def _heads(x: Tensor) -> Tensor:
    """Return [1, heads, tokens, d] as [tokens * heads, d]."""
    return x.transpose(1, 2).reshape(-1, x.shape[-1])


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
