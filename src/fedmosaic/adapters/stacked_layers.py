"""Compute an adapted layer's output for several clients (:mod:`fedmosaic.adapters.stacked`)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters.frozen_products import is_plain_linear
from fedmosaic.adapters.functional import without_autocast
from fedmosaic.adapters.projections import AddedProjection, PassPlan, Projection
from fedmosaic.adapters.stacked_passes import (
    LoraStacks,
    Product,
    StackedCoLoraPass,
    StackedLoraPass,
    product_with,
)
from fedmosaic.errors import ModelError
from fedmosaic.models.client_rows import ClientRows

if TYPE_CHECKING:
    from fedmosaic.adapters.stacked import StackedAdapters


class StackedLayer:
    """Compute the output of one adapted layer for several clients."""

    def __init__(self, adapters: StackedAdapters, layer: Any) -> None:
        self.adapters = adapters
        self.layer = layer

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the layer's adapter parameters."""
        raise NotImplementedError

    def parts(self) -> list[list[str]]:
        """Return the adapters in use: each by itself, or the gated pair in one part."""
        raise NotImplementedError

    def dropout(self, name: str) -> nn.Module:
        """Return the dropout of an adapter."""
        raise NotImplementedError

    def start(self) -> None:
        """Find what stays the same while the layer is attached."""
        self.parts_in_use = parts = self.parts()
        self.dtype = next(self.own_parameters()).dtype
        training = self.layer.training and parts
        self.share = getattr(self.dropout(parts[0][0]), "p", 0.0) if training else 0.0
        self.has_plain_base = is_plain_linear(self.layer.base_layer, self.dtype)
        self._product = product_with(next(self.own_parameters()))

    def prepare(self) -> None:
        """Find what stays the same in a step."""

    def plan(self, names: list[str], dtype: torch.dtype, linear: Any = None) -> PassPlan:
        """Return how to compute the change of output by one part in this step.

        Args:
            names: the part's adapters.
            dtype: of the input.
            linear: the frozen layer, to return its output with the change added.
        """
        raise NotImplementedError

    def change(self, x: Tensor, names: list[str], linear: Any = None) -> Tensor:
        """Return the change of output by one part, for x [tokens, d_in]; see :meth:`plan`."""
        plan = self.plan(names, x.dtype, linear)
        return plan.kind.apply(x, *plan.arguments)  # type: ignore[no-any-return]

    def projection(self) -> Projection | None:
        """Return the pass of this step for a larger function; None where it has none."""
        parts, base = self.parts_in_use, self.layer.base_layer
        if not self.has_plain_base or len(parts) != 1 or self.dtype != torch.float32:
            return None
        if not self.share:
            return Projection(self.plan(parts[0], self.dtype, base))
        assert self.adapters.rows is not None
        drop = partial(self.adapters.rows.dropout, share=self.share)
        return AddedProjection(self.plan(parts[0], self.dtype), base, drop)

    @property
    def common(self) -> tuple[ClientRows, Product]:
        """Return whose the tokens are, and how to multiply with frozen weights."""
        assert self.adapters.rows is not None
        return self.adapters.rows, self._product

    def stacked(self, parameter: nn.Parameter) -> Tensor:
        """Return all clients' tensors for a parameter of the layer."""
        return self.adapters.parameters[parameter]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map ``[..., d_in]`` to ``[..., d_out]`` in the dtype of the base layer."""
        parts, base, rows = self.parts_in_use, self.layer.base_layer, self.adapters.rows
        if not parts:
            unchanged: Tensor = base(x, *args, **kwargs)
            return unchanged
        assert rows is not None
        with without_autocast(x.device.type):
            inner = self._tokens(x)
            if (
                self.has_plain_base
                and not self.share
                and x.dtype == self.dtype
                and not (args or kwargs)
            ):
                y = self.change(inner, parts[0], base)
                for part in parts[1:]:
                    y = y + self.change(inner, part)
                return y.view(*x.shape[:-1], -1)
            inner, share = inner.to(self.dtype), self.share
            changes = [
                self.change(rows.dropout(inner, share) if share else inner, part) for part in parts
            ]
        result: Tensor = base(x, *args, **kwargs)
        return result + sum(changes[1:], changes[0]).view_as(result).to(result.dtype)

    def _tokens(self, x: Tensor) -> Tensor:
        """Return the input as [tokens, d].

        Raises:
            ModelError: its tokens are not those of the batch.
        """
        rows = self.adapters.rows
        assert rows is not None
        tokens = x.reshape(-1, x.shape[-1])
        lead = tokens.shape[0] if x.dim() == 2 else rows.lead
        if tokens.shape[0] != rows.tokens or x.shape[0] != lead:
            raise ModelError(
                f"an adapted layer gets {list(x.shape)} for {rows.tokens} tokens in {rows.lead} "
                "rows, so its input belongs to no client: use train.together=1"
            )
        return tokens


class StackedOwn(StackedLayer):
    """Treat one of this package's layers."""

    def own_parameters(self) -> Iterator[nn.Parameter]:
        for attribute in self.layer.adapter_layer_names:
            yield from getattr(self.layer, attribute).values()

    def parts(self) -> list[list[str]]:
        names: list[str] = self.layer.adapters_in_use()
        if not names or not self.layer.is_gated_pair(names):
            return [[name] for name in names]
        if self.layer.select_path(names, None) == "reference":
            raise ModelError("this gate needs train.together=1")
        return [list(self.layer.colora_pair)]

    def dropout(self, name: str) -> nn.Module:
        found: nn.Module = self.layer.colora_dropout[name]
        return found


class StackedCoLora(StackedOwn):
    """Treat a Co-LoRA layer."""

    def plan(self, names: list[str], dtype: torch.dtype, linear: Any = None) -> PassPlan:
        layer, local = self.layer, names[0]
        received = names[1] if len(names) > 1 else None
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        scale = layer.colora_scaling[local]
        p, q = self._trained(local)
        p_global = q_global = beta = None
        if received is not None:
            p_global, q_global = self._trained(received)
            ratio = layer.colora_scaling[received] / scale
            if ratio != 1.0:  # the pass has one scale, the local adapter's
                p_global = p_global * ratio
                q_global = None if q_global is None else q_global * ratio
            beta = self.stacked(layer.colora_beta[local])
        mixed = (p, q, p_global, q_global, beta)
        arguments = weight, bias, *layer._shared(dtype), *mixed, scale, *self.common
        return PassPlan(StackedCoLoraPass, arguments)

    def _trained(self, name: str) -> tuple[Tensor, Tensor | None]:
        held = self.layer.colora_Q
        q = self.stacked(held[name]) if name in held else None
        return self.stacked(self.layer.colora_P[name]), q


class StackedLora(StackedOwn):
    """Treat an ordinary LoRA layer of this package.

    Attributes:
        a: ``[A_l; A_g]`` of the pair, [k, r_l + r_g, d_in].
        b: ``[(1 - g) s_l B_l, g s_g B_g]``, [k, d_out, r_l + r_g].
        g: the gate, [k, 1].
    """

    def start(self) -> None:
        """Make room for the pair, and put in what does not train."""
        super().start()
        layer, pair = self.layer, [part for part in self.parts_in_use if len(part) > 1]
        self.g: Tensor | None = None
        if pair:
            ((local, received),) = pair
            own = [self.stacked(held[local]) for held in (layer.colora_A, layer.colora_B)]
            other = [self.stacked(held[received]) for held in (layer.colora_A, layer.colora_B)]
            rank = own[0].shape[1]
            self.a = torch.cat([own[0].detach(), other[0].detach()], dim=1)
            self.b = torch.cat([own[1].detach(), other[1].detach()], dim=2)
            self._own = [(self.a[:, :rank], own[0]), (self.b[:, :, :rank], own[1])]
            self._received = self.b[:, :, rank:], other[1]
            self._beta = self.stacked(layer.colora_beta[local])
            self._scales = [layer.colora_scaling[name] for name in (local, received)]
        self._stacks = {
            part[0]: LoraStacks(self.a, self.b)
            if len(part) > 1
            else LoraStacks(*(self.stacked(h[part[0]]) for h in (layer.colora_A, layer.colora_B)))
            for part in self.parts_in_use
        }

    def prepare(self) -> None:
        """Put the local adapter of this step into the pair."""
        if any(len(part) > 1 for part in self.parts_in_use):
            self.g = g = torch.sigmoid(self._beta)
            (a, a_local), (b, b_local) = self._own
            a.copy_(a_local)
            torch.mul(b_local, ((1 - g) * self._scales[0])[..., None], out=b)
            b_received, received = self._received
            torch.mul(received, (g * self._scales[1])[..., None], out=b_received)

    def plan(self, names: list[str], dtype: torch.dtype, linear: Any = None) -> PassPlan:
        layer, local = self.layer, names[0]
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        own = tuple(self.stacked(held[local]) for held in (layer.colora_A, layer.colora_B))
        scale = layer.colora_scaling[local]
        gate = (self._beta, self.g) if len(names) > 1 else (None, None)
        arguments = weight, bias, self._stacks[local], *own, *gate, scale, *self.common
        return PassPlan(StackedLoraPass, arguments)


class StackedPeft(StackedLayer):
    """Treat a LoRA layer of PEFT."""

    def own_parameters(self) -> Iterator[nn.Parameter]:
        for name in self.layer.lora_A:
            yield self.layer.lora_A[name].weight
            yield self.layer.lora_B[name].weight

    def start(self) -> None:
        """Find the views of what trains."""
        super().start()
        pairs = self.layer.lora_A, self.layer.lora_B
        self._stacks = {
            name: LoraStacks(*(self.stacked(held[name].weight) for held in pairs))
            for (name,) in self.parts_in_use
        }

    def parts(self) -> list[list[str]]:
        if self.layer.disable_adapters or self.layer.merged:
            return []
        return [[name] for name in self.layer.active_adapters if name in self.layer.lora_A]

    def dropout(self, name: str) -> nn.Module:
        found: nn.Module = self.layer.lora_dropout[name]
        return found

    def plan(self, names: list[str], dtype: torch.dtype, linear: Any = None) -> PassPlan:
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        a = self.stacked(self.layer.lora_A[names[0]].weight)
        b = self.stacked(self.layer.lora_B[names[0]].weight)
        scaling = None, None, self.layer.scaling[names[0]]
        arguments = weight, bias, self._stacks[names[0]], a, b, *scaling, *self.common
        return PassPlan(StackedLoraPass, arguments)
