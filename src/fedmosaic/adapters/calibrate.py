"""Scale the frozen A and B of Co-LoRA to the activations of the base model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.adapters.linear import CoLoraLinear
from fedmosaic.errors import ConfigError, ModelError


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> int:
    """Scale A and B of every Co-LoRA layer in place, to the activations of the base model.

    Afterwards A x has unit RMS (over tokens and its r entries), and each column of B has b_scale
    times the RMS of W x (over tokens and outputs). An entry of P then means the same strength in
    every layer and model. Calibrating again on the same data changes nothing. Adapters are switched
    off meanwhile. Only sums are stored, so memory does not grow with the data.

    Args:
        model: A PeftModel (or the model inside) with Co-LoRA layers and ``shared_scale="unit"``.
        batches: Keyword arguments of the model's forward, one mapping per batch. With an
            ``attention_mask`` of the input's shape padded tokens are left out.

    Returns:
        The number of layers that were scaled.

    Raises:
        ModelError: there is nothing to scale, no batch, or activations are zero or not finite.
        ConfigError: the config says ``shared_scale="raw"``.
    """
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, CoLoraLinear)
    }
    if not layers:
        raise ModelError("The model has no Co-LoRA layer to calibrate.")
    if any(layer.colora_shared_scale != "unit" for layer in layers.values()):
        raise ConfigError(
            "The adapter was made with shared_scale='raw': use shared_scale='unit' to calibrate it."
        )
    watches = {name: _ActivationSums(layer) for name, layer in layers.items()}
    with _bare(model), ExitStack() as hooks:
        for watch in watches.values():
            handle = watch.layer.base_layer.register_forward_hook(watch.add)
            hooks.callback(handle.remove)
        for batch in batches:
            attention = batch.get("attention_mask")
            padded = isinstance(attention, Tensor) and attention.dim() == 2
            mask: Tensor | None = batch["attention_mask"].bool() if padded else None
            for watch in watches.values():
                watch.mask = mask
            model(**batch)
    for name, watch in watches.items():
        watch.scale_layer(name)
    return len(layers)


class _ActivationSums:
    """Sum up the squares of A x and W x of one layer, then scale its A and B by them."""

    def __init__(self, layer: CoLoraLinear) -> None:
        self.layer = layer
        self.mask: Tensor | None = None
        self.sums = torch.zeros(2, dtype=torch.float64)
        self.count = 0

    def add(self, _: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
        """Take the input and output of the base layer; a forward hook."""
        x = args[0]
        if self.mask is not None and self.mask.shape == x.shape[:-1]:
            x, y = x[self.mask], y[self.mask]
        bias = self.layer.get_base_layer().bias
        y = y.detach().float() if bias is None else y.detach().float() - bias.float()
        z = nn.functional.linear(x.float(), self.layer.shared_colora["frozen_A"].float())
        squares = torch.stack((z.square().mean(-1).sum(), y.square().mean(-1).sum()))
        self.sums += squares.to("cpu", torch.float64)
        self.count += x.shape[:-1].numel()

    def scale_layer(self, name: str) -> None:
        """Scale A and B of the layer called ``name`` in place."""
        if self.count == 0:
            raise ModelError(
                f"Calibration saw no token at {name}: give at least one batch that runs through it."
            )
        rms_z, rms_y = (float(v) for v in (self.sums / self.count).sqrt())
        if not (0 < rms_z < float("inf") and 0 < rms_y < float("inf")):
            raise ModelError(
                f"Calibration found RMS(A x) = {rms_z:g} and RMS(W x) = {rms_y:g} at {name}; both "
                "must be positive."
            )
        shared = self.layer.shared_colora
        shared["frozen_A"].mul_(1.0 / rms_z)
        b = shared["frozen_B"]
        b.mul_(self.layer.colora_b_scale * rms_y / b.float().square().mean().sqrt())


@contextmanager
def _bare(model: nn.Module) -> Iterator[None]:
    """Switch the adapters off and put the model into evaluation mode, for the block."""
    adapted = [
        (module, module._disable_adapters)
        for module in model.modules()
        if isinstance(module, AdaptedLinear)
    ]
    training: bool = model.training  # type: ignore[assignment]
    model.eval()
    try:
        for layer, _ in adapted:
            layer._disable_adapters = True
        yield
    finally:
        for layer, disabled in adapted:
            layer._disable_adapters = disabled
        model.train(training)
