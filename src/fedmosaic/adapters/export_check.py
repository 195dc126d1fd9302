"""Try, without any weights, whether plain PEFT can load an adapter that is to be exported."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fedmosaic.errors import ModelError


def check_loads(model: PeftModel, config: LoraConfig, state: Mapping[str, Tensor]) -> None:
    """Load the adapter into the bare base model as PEFT would, on PyTorch's meta device.

    PEFT and Transformers change some configs and names while they load. For example, they take
    ``gate_proj`` of some mixture-of-experts models for a projection of all experts.

    Args:
        model: The model with the trained adapters; it stays as it is.
        config: The exported config.
        state: The exported tensors.

    Raises:
        ModelError: PEFT refuses it, or would load another adapter than this one.
    """
    bare = without_weights(model)
    meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = get_peft_model(bare, copy.deepcopy(config), low_cpu_mem_usage=True)
            result = set_peft_model_state_dict(loaded, meta)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise _cannot_load(_modules(state), config, " ".join(str(error).split())[:300]) from error
    missing = [name for name in result.missing_keys if ".lora_" in name]
    if missing or result.unexpected_keys:
        wrong = _modules([*missing, *result.unexpected_keys])
        here = [path for path in _modules(state) if path in wrong] or _modules(state)
        raise _cannot_load(here, config, "it would put the adapter on other modules")


def without_weights(model: PeftModel) -> nn.Module:
    """Return the bare base model inside a PeftModel with all its tensors on the meta device.

    Quantised linear layers become ordinary ones.
    """
    inner = model.base_model.model
    memo: dict[int, object] = {}
    for tensor in [*inner.parameters(), *inner.buffers()]:
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if parameter else empty
    bare: nn.Module = copy.deepcopy(inner, memo)
    layers = [(p, m) for p, m in bare.named_modules() if isinstance(m, BaseTunerLayer)]
    for path, layer in layers:
        if any(path.startswith(f"{outer}.") for outer, _ in layers):
            continue  # a layer of a method that wraps a module several times
        parent, _, name = path.rpartition(".")
        setattr(bare.get_submodule(parent), name, _plain(layer.get_base_layer()))
    for name in ("peft_config", "_hf_peft_config_loaded"):
        bare.__dict__.pop(name, None)
    return bare


def _plain(base: nn.Module) -> nn.Module:
    width, outputs = getattr(base, "in_features", None), getattr(base, "out_features", None)
    if type(base) in (nn.Linear, Conv1D) or not isinstance(width, int):
        return base
    assert isinstance(outputs, int)
    has_bias = getattr(base, "bias", None) is not None
    return nn.Linear(width, outputs, bias=has_bias, device="meta")


def _modules(names: Mapping[str, Tensor] | list[str]) -> list[str]:
    """Return the modules that tensors' names belong to, without PEFT's prefix."""
    paths = (name.removeprefix("base_model.model.").partition(".lora_")[0] for name in names)
    return sorted(set(paths))


def _cannot_load(modules: list[str], config: LoraConfig, reason: str) -> ModelError:
    names = ", ".join(sorted({path.rpartition(".")[2] for path in modules}))
    without_q = ", or with adapter.q: false, which makes no bias" if config.lora_bias else ""
    return ModelError(
        f"Plain PEFT cannot load an adapter on {names} of this model ({len(modules)} modules, such "
        f"as {modules[0]}): {reason}. Train with adapter.target_modules that leave {names} out"
        f"{without_q}."
    )
