"""Quantise the language model of a model with bitsandbytes, and nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.errors import ModelError
from fedmosaic.models.options import ModelOptions
from fedmosaic.models.roles import roles_by_path
from fedmosaic.models.structure import find_structure

_QUANTISED = ("Linear4bit", "Linear8bitLt")


def quantisation(
    name: str, options: ModelOptions, config: Any, loader: Any, dtype: torch.dtype
) -> dict[str, Any]:
    """Return the arguments with which Transformers quantises a model while it loads.

    Args:
        name: of the model, for errors.
        options: what was asked for.
        config: the model's config.
        loader: the auto class that will load it.
        dtype: of what is not quantised, and of the products with quantised weights.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if options.quantise == "none" or is_quantised(config):
        return {}
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"model {name!r}: models.quantise: {options.quantise} needs bitsandbytes: "
            "pip install bitsandbytes"
        )
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=options.quantise == "4bit",
        load_in_8bit=options.quantise == "8bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=unquantised_modules(name, config, loader),
    )
    return {"quantization_config": settings}


def is_quantised(config: Any) -> bool:
    """Return whether a checkpoint holds quantised weights already."""
    return getattr(config, "quantization_config", None) is not None


def unquantised_modules(name: str, config: Any, loader: Any) -> list[str]:
    """Return the paths of the modules that keep their dtype: all linear ones outside the decoder.

    These are the vision tower, the projector and the head, whatever a family calls them, and the
    token embeddings where the head is tied to them. So do modules of the decoder whose weight the
    model's code reads directly, as Mamba's does. They are found on a model without weights.
    """
    from transformers.quantizers.base import get_keys_to_not_convert

    with torch.device("meta"):
        model = loader.from_config(config)
    decoder = find_structure(model, name).decoder
    outside = _linear_outside(model, decoder, "")
    direct = [p for p, one in roles_by_path(model).items() if one.excluded == "read directly"]
    return sorted({*outside, *direct, *get_keys_to_not_convert(model)})


def check_quantised(name: str, model: Any) -> None:
    """Raise ModelError if nothing of a model was quantised: some families have layers of their own.

    A share of it may be left as it is, such as experts that are kept in one tensor.
    """
    if not any(type(module).__name__ in _QUANTISED for module in model.modules()):
        raise ModelError(
            f"model {name!r} ({type(model).__name__}) has no layers that bitsandbytes quantises: "
            "use models.quantise: none"
        )


def settle(model: Any) -> None:
    """Bring quantised layers into the state in which forks may share their weights.

    bitsandbytes does two things in the first forward pass that only one of several forks would see:
    an 8-bit layer takes the scales away from its weight, and a 4-bit layer on some CPUs packs its
    weight in a way that has no backward pass.
    """
    for module in model.modules():
        if hasattr(module, "init_8bit_state") and getattr(module.weight, "CB", None) is not None:
            module.init_8bit_state()
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def held_tensors(model: nn.Module) -> Iterator[Tensor]:
    """Yield parameters and buffers, and the tensors of quantised layers that are neither."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        for held in (getattr(module, "state", None), getattr(module, "quant_state", None)):
            for value in getattr(held, "__dict__", {}).values():
                if isinstance(value, Tensor):
                    yield value


def _linear_outside(module: nn.Module, decoder: nn.Module, path: str) -> Iterator[str]:
    """Yield the topmost modules with linear layers that neither hold the decoder nor are in it."""
    for name, child in module.named_children():
        inner = f"{path}.{name}".lstrip(".")
        if child is decoder:
            continue
        parts = list(child.modules())
        if any(part is decoder for part in parts):
            yield from _linear_outside(child, decoder, inner)
        elif any(isinstance(part, nn.Linear) for part in parts):
            yield inner
