"""Weigh two of PEFT's LoRA adapters at every token by a linear layer that is trained with them."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from torch.nn import functional


class TokenMixer(nn.Module):
    """Mix two adapters of one layer by the input x of each token, where both are active.

    The layer then computes::

        h = W x + a(x) s B_1 A_1 x + (1 - a(x)) s B_2 A_2 x,   (a, 1 - a) = softmax(G x)

    With one of them active alone, the layer computes as without a mixer. G belongs to the first
    adapter: it is among its tensors as ``gate.{i}.{m}`` (:mod:`fedmosaic.adapters.keys`).

    Args:
        layer: the LoRA layer.
        pair: names of the two adapters.
        draw: draws G at the start, uniform in ±1/√d_in, as the A of LoRA.

    Attributes:
        weights: G, ``[2, d_in]``, by the name of the first adapter.
    """

    def __init__(self, layer: Any, pair: tuple[str, str], draw: torch.Generator) -> None:
        super().__init__()
        self.pair = pair
        own, bound = layer.lora_A[pair[0]].weight, layer.in_features**-0.5
        start = torch.empty(2, layer.in_features).uniform_(-bound, bound, generator=draw)
        self.weights = nn.ParameterDict({pair[0]: nn.Parameter(start.to(own))})
        self._scaling: dict[str, Any] = {}
        layer.register_forward_pre_hook(self._begin)
        layer.register_forward_hook(self._end, always_call=True)

    def mixes(self, names: list[str]) -> bool:
        """Return whether these active adapters are mixed."""
        return set(self.pair) <= set(names)

    def shares(self, x: Tensor) -> Tensor:
        """Return the weights of the two adapters at each token, float32 ``[..., 2]``.

        Args:
            x: the layer's input, ``[..., d_in]``.
        """
        weight = self.weights[self.pair[0]]
        return torch.softmax(functional.linear(x.to(weight.dtype), weight).float(), -1)

    def _begin(self, layer: Any, inputs: tuple[Tensor, ...]) -> None:
        """Set PEFT's scales to tensors for one forward pass."""
        if layer.disable_adapters or layer.merged or not self.mixes(layer.active_adapters):
            return
        self._scaling = {name: layer.scaling[name] for name in self.pair}
        for name, share in zip(self.pair, self.shares(inputs[0]).split(1, -1), strict=True):
            layer.scaling[name] = self._scaling[name] * share

    def _end(self, layer: Any, *_: Any) -> None:
        layer.scaling.update(self._scaling)
        self._scaling = {}


def add_token_mixers(model: nn.Module, pair: tuple[str, str], draw: torch.Generator) -> None:
    """Put a mixer of two adapters on every layer that has both, as ``token_mixer``.

    Args:
        model: a PEFT model with LoRA.
        pair: names of the two adapters.
        draw: draws the mixers at the start.
    """
    model.__dict__.pop("_fedmosaic_tables", None)  # of the adapters' tensors, made anew when used
    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    for layer in layers:
        if all(name in layer.lora_A for name in pair):
            layer.token_mixer = TokenMixer(layer, pair, draw)


def token_mixer(layer: nn.Module) -> TokenMixer | None:
    """Return the mixer of a layer; None where it has none."""
    found: TokenMixer | None = getattr(layer, "token_mixer", None)
    return found
