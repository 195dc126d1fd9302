"""Read and write adapters under names that do not depend on PEFT, Transformers or the model family.

``keys.py`` lists these names and the shapes behind them. The frozen A and B of Co-LoRA are called
``block.{k}.{m}.A`` ``[r, d_in]`` and ``block.{k}.{m}.B`` ``[d_out, r]``; only ``shared_state`` has
them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from fedmosaic.adapters.keys import TensorKey
from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.adapters.linear import CoLoraLinear
from fedmosaic.adapters.mixer import token_mixer
from fedmosaic.errors import ModelError, UpdateError, nearest
from fedmosaic.models.roles import roles_by_path

# Tensors with fewer values are checked together.
SMALL = 4096
_INDEX = re.compile(r"(?:^|\.)(\d+)\.")
_Table = dict[str, tuple[nn.Module, str]]


def adapter_parameters(
    model: nn.Module, adapter: str, *, gates: bool = True
) -> dict[str, nn.Parameter]:
    """Return the parameters of an adapter (not copies) by canonical key.

    Args:
        model: A PeftModel with Co-LoRA layers or PEFT's own LoRA layers.
        adapter: Name of the adapter.
        gates: Include the gates, where the adapter owns them.

    Raises:
        ModelError: the model has no such adapter, or two layers would have one key.
    """
    table = _tables(model, adapter)
    return {
        key: holder.get_parameter(name)
        for key, (holder, name) in table.items()
        if gates or not key.startswith("gate.")
    }


def read_state(model: nn.Module, adapter: str, *, gates: bool = False) -> dict[str, Tensor]:
    """Return copies of an adapter's tensors by canonical key; private gates only if ``gates``.

    Raises:
        ModelError: as ``adapter_parameters``.
    """
    return {
        key: parameter.detach().clone()
        for key, parameter in adapter_parameters(model, adapter, gates=gates).items()
    }


def write_state(
    model: nn.Module,
    adapter: str,
    state: Mapping[str, Tensor],
    *,
    gates: bool = False,
    partial: bool = False,
) -> None:
    """Copy tensors into an adapter in place, so that optimisers still hold the same parameters.

    Nothing is written if anything is wrong.

    Args:
        model: A PeftModel with Co-LoRA layers or PEFT's own LoRA layers.
        adapter: Name of the adapter.
        state: Tensors by canonical key, as ``read_state`` returns them with the same ``gates``.
        gates: ``state`` holds the gates too.
        partial: Allow missing keys; their tensors stay as they are.

    Raises:
        UpdateError: a key is unknown or missing, or its tensor has another shape or is not finite.
        ModelError: as ``adapter_parameters``.
    """
    _copy_into(
        adapter_parameters(model, adapter, gates=gates), state, f"adapter {adapter!r}", partial
    )


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or Inf; None if there is none."""
    flat = [tensor.detach().reshape(-1).cpu() for tensor in tensors.values()]
    # One test for all small ones: hundreds of them would cost more one by one.
    small = [values for values in flat if len(values) < SMALL]
    large = [values for values in flat if len(values) >= SMALL]
    if all(_finite(values) for values in ([torch.cat(small)] if small else []) + large):
        return None
    pairs = zip(tensors, flat, strict=True)
    return next(name for name, values in pairs if not _finite(values))


def _finite(values: Tensor) -> bool:
    """Return whether all values of a vector are finite, in one pass: extremes carry NaN along."""
    if not len(values):
        return True
    low, high = torch.aminmax(values)
    return math.isfinite(low) and math.isfinite(high)


def shared_state(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the frozen A and B of all Co-LoRA layers.

    Returns:
        ``block.{k}.{m}.A`` ``[r, d_in]`` and ``block.{k}.{m}.B`` ``[d_out, r]``.
    """
    return {key: tensor.detach().clone() for key, tensor in _shared(model).items()}


def load_shared(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Replace A and B of all Co-LoRA layers in place, e.g. by those of an alignment.

    They are shared by all adapters of the model.

    Raises:
        UpdateError: as ``write_state``.
    """
    _copy_into(_shared(model), tensors, "the frozen A and B", False)


def _copy_into(
    targets: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str, partial: bool
) -> None:
    for key in state:
        if key not in targets:
            raise UpdateError(f"{what} has no tensor {key!r}.{nearest(key, targets)}")
    if not partial and len(state) != len(targets):
        missing = next(key for key in targets if key not in state)
        raise UpdateError(
            f"The state for {what} lacks {missing!r} "
            f"({len(targets) - len(state)} tensors are missing)."
        )
    for key, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.shape != targets[key].shape:
            found = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UpdateError(f"{key} is {found}, but {what} has {list(targets[key].shape)} there.")
        if not tensor.is_floating_point():
            raise UpdateError(
                f"{key} is of type {tensor.dtype}; a floating-point tensor is needed."
            )
    bad = not_finite(state)
    if bad is not None:
        raise UpdateError(f"{bad} holds NaN or Inf.")
    if not state:
        return
    with torch.no_grad():
        torch._foreach_copy_(
            [targets[key].data for key in state], [tensor.detach() for tensor in state.values()]
        )


def _tables(model: nn.Module, adapter: str) -> _Table:
    """Return canonical key -> (dictionary module, name in it) of one adapter.

    The table is cached on the model until its adapters change. It has the modules that hold the
    parameters rather than the parameters, which PEFT replaces when it casts or loads them.
    """
    configs = getattr(model, "peft_config", None)
    if not isinstance(configs, dict) or adapter not in configs:
        known = ", ".join(map(repr, configs)) if isinstance(configs, dict) and configs else "none"
        raise ModelError(f"The model has no adapter {adapter!r}; it has: {known}.")
    stamp = tuple(configs)
    cache = model.__dict__.get("_fedmosaic_tables")
    if cache is None or cache[0] != stamp:
        cache = (stamp, {})
        model.__dict__["_fedmosaic_tables"] = cache
    tables: dict[str, _Table] = cache[1]
    if adapter not in tables:
        tables[adapter] = _build_table(model, adapter)
    return tables[adapter]


def _build_table(model: nn.Module, adapter: str) -> _Table:
    table: _Table = {}
    gates: _Table = {}
    inner: Any = model.base_model.model if isinstance(model, PeftModel) else model
    roles = roles_by_path(inner)
    for path, layer in inner.named_modules():
        if isinstance(layer, AdaptedLinear) and layer.has(adapter):
            _add_ours(table, gates, layer, adapter)
        elif isinstance(layer, LoraLayer) and adapter in layer.lora_A:
            role = roles[path].role if path in roles else path.rpartition(".")[2]
            _add_peft(table, gates, path, role, layer, adapter)
    if not table:
        raise ModelError(f"Adapter {adapter!r} has no Co-LoRA and no LoRA layer in this model.")
    return {**table, **gates}


def _add_ours(table: _Table, gates: _Table, layer: AdaptedLinear, adapter: str) -> None:
    site = layer.colora_site
    for attr in layer.low_rank_names:
        if site.block is None:
            key = TensorKey("layer", site.layer, site.module, attr[-1])
        else:
            key = TensorKey("block", site.block, site.module, attr[-1])
        _add(table, key, getattr(layer, attr), adapter)
    if adapter in layer.colora_beta:
        _add(gates, TensorKey("gate", site.layer, site.module), layer.colora_beta, adapter)


def _add_peft(table: _Table, gates: _Table, path: str, role: str, layer: Any, adapter: str) -> None:
    if getattr(layer.lora_B[adapter], "bias", None) is not None:
        raise ModelError(
            f"{path} has a LoRA bias, which has no canonical name: use lora_bias=False."
        )
    found = _INDEX.search(path)
    number = int(found[1]) if found else 0
    for parameter, holder in (("A", layer.lora_A), ("B", layer.lora_B)):
        _add(table, TensorKey("layer", number, role, parameter), holder, f"{adapter}.weight")
    mixer = token_mixer(layer)
    if mixer is not None and adapter in mixer.weights:
        _add(gates, TensorKey("gate", number, role), mixer.weights, adapter)


def _add(table: _Table, key: TensorKey, holder: nn.Module, name: str) -> None:
    if str(key) in table:
        raise _ambiguous(str(key))
    table[str(key)] = (holder, name)


def _ambiguous(key: str) -> ModelError:
    return ModelError(
        f"Two adapted modules would both be called {key!r}; name them apart with target_modules."
    )


def _shared(model: nn.Module) -> dict[str, Tensor]:
    """Return the frozen A and B of all Co-LoRA layers themselves."""
    tensors: dict[str, Tensor] = {}
    for layer in model.modules():
        if isinstance(layer, CoLoraLinear):
            prefix = layer.colora_site.key
            if f"{prefix}.A" in tensors:
                raise _ambiguous(prefix)
            tensors[f"{prefix}.A"] = layer.shared_colora["frozen_A"]
            tensors[f"{prefix}.B"] = layer.shared_colora["frozen_B"]
    return tensors
