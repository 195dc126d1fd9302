"""Make sure that an adapter loaded from a folder comes with the frozen A and B it was trained with.

PEFT and Transformers first make a new adapter and then copy the file's tensors into it. What the
file lacks, or names differently, stays as it was made. P and Q mean nothing with another A and B,
so between these two steps A and B are NaN, and a layer refuses to compute with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedmosaic.errors import ModelError

if TYPE_CHECKING:
    from fedmosaic.adapters.linear import CoLoraLinear

FORMER_NAME = "colora_shared"
"""Name of A and B in folders that were saved before they became ``shared_colora``."""


@dataclass
class AwaitedPair:
    """Hold what is known about a layer whose A and B are still to come from a file.

    Attributes:
        path: of the layer in the model.
        adapter: name of the adapter that is being loaded.
        others: names of the adapters that the layer had before.
        earlier: the A and B of those, by their name in the layer; empty without others.
    """

    path: str
    adapter: str
    others: list[str] = field(default_factory=list)
    earlier: dict[str, Tensor] = field(default_factory=dict)


def await_pair(layer: CoLoraLinear, path: str, adapter: str) -> None:
    """Mark a layer's A and B as missing until an adapter's file has brought them."""
    awaited = AwaitedPair(path, adapter, sorted(set(layer.colora_P) - {adapter}))
    for key, tensor in layer.shared_colora.items():
        if awaited.others:
            awaited.earlier[key] = tensor.clone()
        tensor.fill_(torch.nan)
    layer.colora_awaits = awaited


def accept_pair(layer: CoLoraLinear) -> None:
    """Check the A and B that loading has put into a layer.

    Raises:
        ModelError: there are none, or they are not those of the layer's other adapters. The layer
            then refuses to compute.
    """
    if layer.colora_awaits is not None:
        _check(dict(layer.shared_colora.items()), layer.colora_awaits)
        layer.colora_awaits = None


def accept_file(model: nn.Module, adapter: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check the A and B in a file's tensors before PEFT copies them into the model.

    Args:
        model: The PeftModel, or a model with adapters inside.
        adapter: Name of the adapter that is being loaded.
        state: The file's tensors under its names, of today or before.

    Returns:
        The tensors under today's names.

    Raises:
        ModelError: as :func:`accept_pair`, but the model's earlier adapters stay as they are.
    """
    from fedmosaic.adapters.linear import CoLoraLinear

    state = {
        key.replace(f".{FORMER_NAME}.", ".shared_colora."): value for key, value in state.items()
    }
    layers = {path: m for path, m in model.named_modules() if isinstance(m, CoLoraLinear)}
    try:
        for path, layer in layers.items():
            _check_file(path, layer, adapter, state)
    except ModelError:
        for layer in layers.values():
            _restore(layer)
        raise
    for layer in layers.values():
        layer.colora_awaits = None
    return state


def _check_file(path: str, layer: CoLoraLinear, adapter: str, state: Mapping[str, Tensor]) -> None:
    """Check the A and B that a file has for one layer."""
    names = {key: f"{path}.shared_colora.{key}" for key in layer.shared_colora}
    found = {
        key: state.get(name, state.get(f"base_model.model.{name}")) for key, name in names.items()
    }
    awaited = layer.colora_awaits
    if awaited is None:  # the adapter was not made for this file, which may hold only a part
        found = {key: value for key, value in found.items() if value is not None}
        others = sorted(set(layer.colora_P) - {adapter})
        earlier = dict(layer.shared_colora.items()) if others else {}
        awaited = AwaitedPair(path, adapter, others, earlier)
    _check(found, awaited)


def _check(found: Mapping[str, Tensor | None], awaited: AwaitedPair) -> None:
    for key, tensor in found.items():
        if tensor is None or tensor.is_meta or not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"Adapter {awaited.adapter!r} was loaded without its frozen {key[-1]} at "
                f"{awaited.path}, and P and Q mean nothing with another one. A folder saved by an "
                "earlier version of fedmosaic: load it with peft.PeftModel.from_pretrained and "
                "save it again. A new adapter with the settings of a saved one: "
                "dataclasses.replace(config, peft_version=None)."
            )
        own = awaited.earlier.get(key)
        if own is None:
            continue
        if own.shape != tensor.shape or not torch.allclose(
            tensor.to(own.device, own.dtype), own, rtol=1e-2, atol=1e-3
        ):
            raise ModelError(
                f"Adapter {awaited.adapter!r} was trained in another subspace than "
                f"{', '.join(awaited.others)}: its frozen {key[-1]} at {awaited.path} differs. "
                "Load adapters of one client together, or load this one into a fresh model."
            )


def _restore(layer: CoLoraLinear) -> None:
    """Give a layer the A and B of its earlier adapters back."""
    if layer.colora_awaits is not None and layer.colora_awaits.others:
        for key, tensor in layer.colora_awaits.earlier.items():
            layer.shared_colora[key] = tensor
        layer.colora_awaits = None
