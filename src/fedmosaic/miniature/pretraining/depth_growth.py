"""Growing a decoder while it trains: most steps run a few layers, then layers that change nothing are put in between.

A new layer is a copy of the one before it whose two outputs (``o_proj`` and ``down_proj``) are zero, so that growing
does not change what the model computes; the residual stream carries everything past it until it has learned
something.
"""

from __future__ import annotations

import torch
from torch import nn


def initial_layers(layers: int, initial_depth: int) -> list[int]:
    """Indices, evenly spread, of the ``initial_depth`` layers that are trained from the start."""
    return [k * layers // initial_depth for k in range(initial_depth)]


class GrowingDecoder:
    """Runs a decoder with its first-trained layers only, until :meth:`grow`.

    Args:
        decoder: A Llama or Qwen2 decoder (``language_model`` of a LLaVA model); its layer list is replaced for a while.
        initial_depth: Number of layers before growing.
    """

    def __init__(self, decoder: nn.Module, initial_depth: int) -> None:
        self.decoder = decoder
        self.every = list(decoder.layers)  # type: ignore[arg-type]
        self.first = initial_layers(len(self.every), initial_depth)
        decoder.layers = nn.ModuleList([self.every[k] for k in self.first])

    @torch.no_grad()
    def grow(self) -> list[nn.Parameter]:
        """Put the other layers in; returns their parameters, which are new to the optimiser."""
        fresh: list[nn.Parameter] = []
        for k, layer in enumerate(self.every):
            if k not in self.first:
                layer.load_state_dict(self.every[k - 1].state_dict())
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
                fresh += layer.parameters()
        self.decoder.layers = nn.ModuleList(self.every)
        return fresh
