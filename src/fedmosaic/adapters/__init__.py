"""Provide Co-LoRA, the adapter whose trained part has one shape in every model, as a PEFT method.

Importing anything from this package registers Co-LoRA with PEFT: ``peft.get_peft_model`` takes a
:class:`CoLoraConfig`, and ``PeftModel.from_pretrained`` loads saved Co-LoRA adapters.
"""

from __future__ import annotations

from fedmosaic.adapters.calibrate import calibrate
from fedmosaic.adapters.config import CoLoraConfig
from fedmosaic.adapters.export import export_lora, export_to_folder
from fedmosaic.adapters.linear import CoLoraLinear, LoraLinear
from fedmosaic.adapters.model import CoLoraModel, activate, build_pair
from fedmosaic.adapters.placement import block_ends
from fedmosaic.adapters.register import register
from fedmosaic.adapters.state import (
    adapter_parameters,
    load_shared,
    not_finite,
    read_state,
    shared_state,
    write_state,
)

register()

__all__ = [
    "CoLoraConfig",
    "CoLoraLinear",
    "CoLoraModel",
    "LoraLinear",
    "activate",
    "adapter_parameters",
    "block_ends",
    "build_pair",
    "calibrate",
    "export_lora",
    "export_to_folder",
    "load_shared",
    "not_finite",
    "read_state",
    "shared_state",
    "write_state",
]
