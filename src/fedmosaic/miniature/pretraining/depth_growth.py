"""Grow a decoder while it trains: most steps run a few layers, then the other layers are added.

An added layer is a copy of the layer before it with both output matrices (``o_proj`` and
``down_proj``) set to zero. It adds nothing to the residual stream at first, so growing does not
change what the model computes.
"""

from __future__ import annotations

import torch
from torch import nn


def initial_layers(layers: int, initial_depth: int) -> list[int]:
    """Return the indices, evenly spread, of the layers that are trained from the start."""
    return [k * layers // initial_depth for k in range(initial_depth)]


class GrowingDecoder:
    """Run a decoder with its initial layers only, until :meth:`grow`.

    Args:
        decoder: a Llama or Qwen2 decoder (``language_model`` of a LLaVA model). Its list of layers
            is replaced until it grows.
        initial_depth: number of layers before growing.
    """

    def __init__(self, decoder: nn.Module, initial_depth: int) -> None:
        self.decoder = decoder
        self.all_layers = list(decoder.layers)  # type: ignore[arg-type]
        self.initial = initial_layers(len(self.all_layers), initial_depth)
        decoder.layers = nn.ModuleList([self.all_layers[k] for k in self.initial])

    @torch.no_grad()
    def grow(self) -> list[nn.Parameter]:
        """Add the other layers, and return their parameters, which the optimizer must be given."""
        added: list[nn.Parameter] = []
        for k, layer in enumerate(self.all_layers):
            if k not in self.initial:
                layer.load_state_dict(self.all_layers[k - 1].state_dict())
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
                added += layer.parameters()
        self.decoder.layers = nn.ModuleList(self.all_layers)
        return added
