"""The frozen A and B of Co-LoRA: how they are drawn, and how they are scaled to the activations of the base model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.errors import ConfigError, ModelError
from fedmosaic.seeding import generator


def random_pair(
    d_in: int, d_out: int, r: int, seed: int, layer: int, module: str
) -> tuple[Tensor, Tensor]:
    """A ``[r, d_in]`` with orthonormal rows and B ``[d_out, r]`` with orthonormal columns, float64, drawn for (seed,
    layer, module).

    Orthonormal A and B let P reach r^2 dimensions of updates, the maximum (FedMosaic, Theorem 1). Where r exceeds a
    width, the long side is orthonormal instead.
    """
    a = torch.empty(r, d_in, dtype=torch.float64)
    b = torch.empty(d_out, r, dtype=torch.float64)
    nn.init.orthogonal_(a, generator=generator(seed, "A", layer, module))
    nn.init.orthogonal_(b, generator=generator(seed, "B", layer, module))
    return a, b


def svd_pair(weight: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """The r leading right and left singular vectors of the base weight ``[d_out, d_in]``, float64, signs made unique.

    Raises:
        ModelError: when r exceeds the smaller width of the weight.
    """
    d_out, d_in = weight.shape
    if r > min(d_out, d_in):
        raise ModelError(
            f"shared_init='svd' finds at most {min(d_out, d_in)} directions in a weight of {d_out} x {d_in}, but r is "
            f"{r}: lower r or use shared_init='random'."
        )
    u, _, vh = torch.linalg.svd(weight.detach().to("cpu", torch.float64), full_matrices=False)
    a, b = vh[:r], u[:, :r]
    # A singular pair is defined up to its sign; fix it so that two machines agree on what P means.
    sign = torch.sign(a.gather(1, a.abs().argmax(1, keepdim=True)))
    return (a * sign).contiguous(), (b * sign.t()).contiguous()


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> int:
    """Scale every Co-LoRA layer's A and B, in place, to what the base model does on ``batches``.

    Afterwards A x has unit RMS (over tokens and its r entries) and each column of B has b_scale times the RMS of W x
    (over tokens and outputs), so that an entry of P means the same strength in every layer and model. Calibrating again
    changes nothing but the data it is based on. Adapters are switched off meanwhile; only sums are kept, so memory does
    not grow with the data.

    Args:
        model: A PeftModel (or the model inside) with Co-LoRA layers and ``shared_scale="unit"``.
        batches: Keyword arguments of the model's forward, one mapping per batch. With an ``attention_mask`` of the
            input's shape padded tokens are left out.

    Returns:
        The number of layers that were scaled.

    Raises:
        ModelError: when there is nothing to scale, no batch, or activations that are zero or not finite.
        ConfigError: when the config says ``shared_scale="raw"``.
    """
    from fedmosaic.adapters.layer import AdaptedLinear
    from fedmosaic.adapters.linear import CoLoraLinear

    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, CoLoraLinear)
    }
    if not layers:
        raise ModelError("The model has no Co-LoRA layer to calibrate.")
    if any(layer.colora_shared_scale != "unit" for layer in layers.values()):
        raise ConfigError(
            "The adapter was made with shared_scale='raw': use shared_scale='unit' to calibrate it."
        )
    sums = {name: torch.zeros(2, dtype=torch.float64) for name in layers}
    counts = dict.fromkeys(layers, 0)
    mask: Tensor | None = None

    def watch(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
            x = args[0]
            layer = layers[name]
            if mask is not None and mask.shape == x.shape[:-1]:
                x, y = x[mask], y[mask]
            bias = layer.get_base_layer().bias
            y = y.detach().float() if bias is None else y.detach().float() - bias.float()
            z = torch.nn.functional.linear(x.float(), layer.colora_shared["frozen_A"].float())
            sums[name] += torch.stack((z.square().mean(-1).sum(), y.square().mean(-1).sum())).to(
                "cpu", torch.float64
            )
            counts[name] += x.shape[:-1].numel()

        return hook

    adapted = [
        (module, module._disable_adapters)
        for module in model.modules()
        if isinstance(module, AdaptedLinear)
    ]
    hooks = [layer.base_layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    training: bool = model.training  # type: ignore[assignment]
    model.eval()
    try:
        for layer, _ in adapted:
            layer._disable_adapters = True
        for batch in batches:
            attention = batch.get("attention_mask")
            mask = (
                attention.bool() if isinstance(attention, Tensor) and attention.dim() == 2 else None
            )
            model(**batch)
    finally:
        for handle in hooks:
            handle.remove()
        for layer, state in adapted:
            layer._disable_adapters = state
        model.train(training)
    for name, layer in layers.items():
        if counts[name] == 0:
            raise ModelError(
                f"Calibration saw no token at {name}: give at least one batch that runs through it."
            )
        rms_z, rms_y = (float(v) for v in (sums[name] / counts[name]).sqrt())
        if not (0 < rms_z < float("inf") and 0 < rms_y < float("inf")):
            raise ModelError(
                f"Calibration found RMS(A x) = {rms_z:g} and RMS(W x) = {rms_y:g} at {name}; both must be positive."
            )
        a, b = layer.colora_shared["frozen_A"], layer.colora_shared["frozen_B"]
        a.mul_(1.0 / rms_z)
        b.mul_(layer.colora_b_scale * rms_y / b.float().square().mean().sqrt())
    return len(layers)
