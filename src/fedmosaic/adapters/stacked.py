"""Let one adapted model compute with the adapters of several clients at the same time.

The parameters of k clients are stacked along a leading dimension. While :class:`StackedAdapters`
is attached, each adapted layer takes the rows of a batch for those of k clients, in equal parts
and in order, and applies each client's adapter to its own rows. Everything else of the model is
computed once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from fedmosaic.adapters.functional import without_autocast
from fedmosaic.adapters.layer import AdaptedLinear, is_plain_linear
from fedmosaic.adapters.linear import CoLoraLinear
from fedmosaic.adapters.stacked_passes import StackedCoLoraPass, StackedLoraPass
from fedmosaic.errors import ModelError


@dataclass(frozen=True)
class StackedRows:
    """Describe the rows of a batch of several clients.

    Attributes:
        rows: rows of each client.
        columns: tokens of each row.
        own: rows and columns that a client's examples need without the others'; the columns are
            the last of its rows.
        draws: for each client, the generator of what its adapters drop in training.
    """

    rows: int
    columns: int
    own: Sequence[tuple[int, int]]
    draws: Sequence[torch.Generator]

    def by_client(self, x: Tensor) -> Tensor:
        """Return the input of a layer as [clients, tokens, d].

        Raises:
            ModelError: its rows are not those of the batch.
        """
        lead = len(self.own) * self.rows
        if x.shape[0] != (lead if x.dim() > 2 else lead * self.columns):
            raise ModelError(
                f"an adapted layer gets {list(x.shape)} for {lead} examples of {self.columns} "
                "tokens, so its rows belong to no client: use train.together=1"
            )
        return x.reshape(len(self.own), -1, x.shape[-1])

    def dropout(self, x: Tensor, share: float) -> Tensor:
        """Return [clients, tokens, d] with the units dropped that each client drops by itself."""
        keep = x.new_zeros(len(self.own), self.rows, self.columns, x.shape[-1])
        for client, ((rows, columns), draw) in enumerate(zip(self.own, self.draws, strict=True)):
            mask = x.new_empty(rows, columns, x.shape[-1])
            mask.bernoulli_(1 - share, generator=draw).div_(1 - share)
            keep[client, :rows, self.columns - columns :] = mask
        return x * keep.view_as(x)


class StackedAdapters:
    """Hold the adapters of several clients for one adapted model.

    Args:
        model: a PeftModel with Co-LoRA layers or PEFT's own LoRA layers.
        clients: k, the number of clients.

    Attributes:
        parameters: the stacked parameter ``[k, ...]`` for each adapter parameter of the model.
    """

    def __init__(self, model: nn.Module, clients: int) -> None:
        self.rows: StackedRows | None = None
        self._layers = [
            _StackedCoLora(self, layer) if isinstance(layer, CoLoraLinear) else
            _StackedLora(self, layer) if isinstance(layer, AdaptedLinear) else
            _StackedPeft(self, layer)
            for layer in model.modules()
            if isinstance(layer, (AdaptedLinear, LoraLayer))
        ]  # fmt: skip
        self.parameters = {
            parameter: nn.Parameter(parameter.detach().expand(clients, *parameter.shape).clone())
            for stacked in self._layers
            for parameter in stacked.own_parameters()
        }

    def lay_out(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Move some of the stacked parameters into one tensor, [clients, all values], in order.

        Args:
            parameters: the model's.

        Returns:
            the tensor, of which they are views from now on.
        """
        rows = [self.parameters[parameter].data.flatten(1) for parameter in parameters]
        whole = torch.cat(rows, dim=1)
        parts = whole.split([row.shape[1] for row in rows], dim=1)
        for parameter, part in zip(parameters, parts, strict=True):
            self.parameters[parameter] = nn.Parameter(part.unflatten(1, parameter.shape))
        return whole

    def describe_batch(
        self,
        rows: int,
        columns: int,
        own: Sequence[tuple[int, int]],
        draws: Sequence[torch.Generator],
    ) -> None:
        """Say what the rows of the next forward pass are; arguments as of :class:`StackedRows`."""
        self.rows = StackedRows(rows, columns, own, draws)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the model's adapted layers compute with the stacked adapters inside the block."""
        for parameter, stacked in self.parameters.items():
            stacked.requires_grad_(parameter.requires_grad)
        for stacked_layer in self._layers:
            stacked_layer.layer.forward = stacked_layer.forward
        try:
            yield
        finally:
            for stacked_layer in self._layers:
                del stacked_layer.layer.forward


class _StackedLayer:
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

    def change(self, x: Tensor, names: list[str], linear: Any = None) -> Tensor:
        """Return the change of output by one part.

        Args:
            x: [clients, tokens, d_in].
            names: the part's adapters.
            linear: the frozen layer, to return its output with the change added.
        """
        raise NotImplementedError

    def stacked(self, parameter: nn.Parameter) -> Tensor:
        """Return all clients' tensors for a parameter of the layer."""
        return self.adapters.parameters[parameter]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map ``[..., d_in]`` to ``[..., d_out]`` in the dtype of the base layer."""
        parts, base, rows = self.parts(), self.layer.base_layer, self.adapters.rows
        if not parts:
            unchanged: Tensor = base(x, *args, **kwargs)
            return unchanged
        assert rows is not None
        dtype = next(self.own_parameters()).dtype
        share = getattr(self.dropout(parts[0][0]), "p", 0.0) if self.layer.training else 0.0
        fusable = x.dtype == dtype and not (args or kwargs or share)
        with without_autocast(x.device.type):
            inner = rows.by_client(x)
            if fusable and is_plain_linear(base, dtype):
                y = self.change(inner, parts[0], base)
                for part in parts[1:]:
                    y = y + self.change(inner, part)
                return y.view(*x.shape[:-1], -1)
            inner = inner.to(dtype)
            changes = [
                self.change(rows.dropout(inner, share) if share else inner, part) for part in parts
            ]
        result: Tensor = base(x, *args, **kwargs)
        return result + sum(changes[1:], changes[0]).view_as(result).to(result.dtype)


class _StackedOwn(_StackedLayer):
    """Treat one of this package's layers."""

    def own_parameters(self) -> Iterator[nn.Parameter]:
        for attribute in self.layer.adapter_layer_names:
            yield from getattr(self.layer, attribute).values()

    def parts(self) -> list[list[str]]:
        names: list[str] = self.layer._adapters_in_use()
        if not names or not self.layer.is_gated_pair(names):
            return [[name] for name in names]
        if self.layer.select_path(names, None) == "reference":
            raise ModelError("this gate needs train.together=1")
        return [list(self.layer.colora_pair)]

    def dropout(self, name: str) -> nn.Module:
        found: nn.Module = self.layer.colora_dropout[name]
        return found


class _StackedCoLora(_StackedOwn):
    """Treat a Co-LoRA layer."""

    def change(self, x: Tensor, names: list[str], linear: Any = None) -> Tensor:
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
        a, b = layer._shared(x.dtype)
        return StackedCoLoraPass.apply(x, weight, bias, a, b, p, q, p_global, q_global, beta, scale)  # type: ignore[no-any-return]

    def _trained(self, name: str) -> tuple[Tensor, Tensor | None]:
        held = self.layer.colora_Q
        q = self.stacked(held[name]) if name in held else None
        return self.stacked(self.layer.colora_P[name]), q


class _StackedLora(_StackedOwn):
    """Treat an ordinary LoRA layer of this package."""

    def change(self, x: Tensor, names: list[str], linear: Any = None) -> Tensor:
        layer, local = self.layer, names[0]
        received = names[1] if len(names) > 1 else None
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        a, b = (self.stacked(held[local]) for held in (layer.colora_A, layer.colora_B))
        a_global = b_global = beta = None
        scales = [layer.colora_scaling[local], 0.0]
        if received is not None:
            a_global = self.stacked(layer.colora_A[received])
            b_global = self.stacked(layer.colora_B[received])
            beta = self.stacked(layer.colora_beta[local])
            scales[1] = layer.colora_scaling[received]
        return StackedLoraPass.apply(x, weight, bias, a, b, a_global, b_global, beta, *scales)  # type: ignore[no-any-return]


class _StackedPeft(_StackedLayer):
    """Treat a LoRA layer of PEFT."""

    def own_parameters(self) -> Iterator[nn.Parameter]:
        for name in self.layer.lora_A:
            yield self.layer.lora_A[name].weight
            yield self.layer.lora_B[name].weight

    def parts(self) -> list[list[str]]:
        if self.layer.disable_adapters or self.layer.merged:
            return []
        return [[name] for name in self.layer.active_adapters if name in self.layer.lora_A]

    def dropout(self, name: str) -> nn.Module:
        found: nn.Module = self.layer.lora_dropout[name]
        return found

    def change(self, x: Tensor, names: list[str], linear: Any = None) -> Tensor:
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        a = self.stacked(self.layer.lora_A[names[0]].weight)
        b = self.stacked(self.layer.lora_B[names[0]].weight)
        scale = self.layer.scaling[names[0]]
        return StackedLoraPass.apply(x, weight, bias, a, b, None, None, None, scale, 0.0)  # type: ignore[no-any-return]
