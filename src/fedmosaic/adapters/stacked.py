"""Let one adapted model compute with the adapters of several clients at the same time.

The parameters of k clients are stacked along a leading dimension. While :class:`StackedAdapters`
is attached, each adapted layer takes the rows of a batch for those of k clients, in equal parts
and in order, and applies each client's adapter to its own rows. Everything else of the model is
computed once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from fedmosaic.adapters.fused_layers import TrainedLayer, in_few_operations
from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.adapters.linear import CoLoraLinear
from fedmosaic.adapters.stacked_layers import StackedCoLora, StackedLora, StackedPeft
from fedmosaic.models.client_rows import ClientRows


class StackedAdapters:
    """Hold the adapters of several clients for one adapted model.

    Args:
        model: a PeftModel with Co-LoRA layers or PEFT's own LoRA layers.
        clients: k, the number of clients.
        fused: decoder layers of the model to compute in few operations.

    Attributes:
        parameters: the stacked parameter ``[k, ...]`` for each adapter parameter of the model.
    """

    def __init__(self, model: nn.Module, clients: int, fused: Sequence[TrainedLayer] = ()) -> None:
        self.rows: ClientRows | None = None
        self._layers = [
            StackedCoLora(self, layer) if isinstance(layer, CoLoraLinear) else
            StackedLora(self, layer) if isinstance(layer, AdaptedLinear) else
            StackedPeft(self, layer)
            for layer in model.modules()
            if isinstance(layer, (AdaptedLinear, LoraLayer))
        ]  # fmt: skip
        found = {stacked.layer: stacked for stacked in self._layers}
        self._fused = [layer.with_passes(found) for layer in fused]
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

    def describe_batch(self, rows: ClientRows) -> None:
        """Say whose the tokens of the next forward pass are."""
        self.rows = rows
        with torch.no_grad():
            for stacked_layer in self._layers:
                stacked_layer.prepare()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the model's adapted layers compute with the stacked adapters inside the block.

        Every forward pass follows a call of :meth:`describe_batch`.
        """
        for parameter, stacked in self.parameters.items():
            stacked.requires_grad_(parameter.requires_grad)
        for stacked_layer in self._layers:
            stacked_layer.start()
            stacked_layer.layer.forward = stacked_layer.forward
        try:
            with in_few_operations(self._fused):
                yield
        finally:
            for stacked_layer in self._layers:
                del stacked_layer.layer.forward
