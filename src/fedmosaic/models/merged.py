"""Merge a LoRA folder into the base model that it names, so that a run can start from both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedmosaic.errors import ModelError
from fedmosaic.models.checkpoint import read_json, some, tensor_names
from fedmosaic.models.names import ADAPTER_CONFIG

_WEIGHTS = "adapter_model.safetensors"


def base_of(name: str, folder: Path) -> str:
    """Return the name of the base model of an adapter folder.

    Raises:
        ModelError: the folder holds no LoRA that can be merged, or names no base model.
    """
    config = read_json(name, folder / ADAPTER_CONFIG)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"model {name!r} is an adapter of the type {kind!r}, and only LoRA is merged into its "
            "base model: merge it first (`merge_and_unload()`, then `save_pretrained`), or for an "
            "adapter of FedMosaic make a LoRA with `fedmosaic export --to lora`"
        )
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(
            f"model {name!r} is an adapter without {_WEIGHTS}: save it with save_pretrained, which "
            "writes safetensors; pickled weights are not read"
        )
    tensor_names(name, folder / _WEIGHTS)
    base = config.get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"model {name!r} is an adapter whose {ADAPTER_CONFIG} names no base model: write it "
            "there as base_model_name_or_path"
        )
    revision = config.get("revision")
    nearby = folder / str(base)  # a relative folder may be meant from the adapter's place
    if not Path(str(base)).expanduser().exists() and nearby.is_dir():
        return str(nearby)
    known = revision and "@" not in str(base) and not Path(str(base)).exists()
    return f"{base}@{revision}" if known else str(base)


def merge(name: str, model: Any, folder: Path) -> Any:
    """Return the base model with the adapter's update added to its weights, W + sBA.

    Raises:
        ModelError: the base is quantised, or the adapter does not fit it.
    """
    from peft import PeftModel, get_peft_model_state_dict

    if getattr(model, "is_quantized", False):
        raise ModelError(
            f"model {name!r} is an adapter on a quantised model, into which it cannot be merged "
            "without rounding: use models.quantise: none, or merge and save it first"
        )
    try:
        adapted = PeftModel.from_pretrained(model, str(folder))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"model {name!r} is an adapter that does not fit its base model "
            f"{model.config.name_or_path}: {' '.join(str(error).split())[:300]}"
        ) from error
    needed = set(get_peft_model_state_dict(adapted))
    held = set(tensor_names(name, folder / _WEIGHTS))
    if needed != held:
        raise ModelError(
            f"model {name!r} is an adapter that does not fit its base model "
            f"{model.config.name_or_path}: {len(needed ^ held)} of its weights are on one side "
            f"only ({some(needed ^ held)})"
        )
    return adapted.merge_and_unload(safe_merge=True)
