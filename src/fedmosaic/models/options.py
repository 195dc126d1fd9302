"""Define how base models are loaded, and choose device and dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedmosaic.errors import ModelError, nearest
from fedmosaic.models.names import PREFIX


@dataclass(frozen=True)
class ModelOptions:
    """Choose how base models are loaded.

    Attributes:
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``: float32 on a CPU and for
            the miniatures, else bfloat16 where CUDA supports it, else float16.
        device: Any torch device string, or ``"auto"``: CUDA, else MPS, else the CPU.
        quantise: ``"none"``, ``"8bit"`` or ``"4bit"`` (bitsandbytes, extra ``quantised``). Vision
            tower, projector and head stay in ``dtype``.
        trust_remote_code: Run model code that comes with the weights; default: no.
        attn_implementation: Transformers' name of an attention implementation, e.g. ``"eager"``,
            ``"sdpa"`` or ``"flash_attention_2"``, or ``"auto"``: Transformers' choice.
        device_map: ``"none"``: the whole model on ``device``; ``"auto"``: spread over all CUDA
            devices.
    """

    dtype: str = "auto"
    device: str = "auto"
    quantise: str = "none"
    trust_remote_code: bool = False
    attn_implementation: str = "auto"
    device_map: str = "none"

    def check(self) -> None:
        """Raise ModelError if a choice has no such value."""
        for field, valid in (
            ("quantise", ["none", "4bit", "8bit"]),
            ("device_map", ["none", "auto"]),
        ):
            value = getattr(self, field)
            if value not in valid:
                raise ModelError(f"{field}={value!r} is not valid.{nearest(value, valid)}")


def resolve_device(device: str) -> torch.device:
    """Return the torch device of an option value; ``auto``: CUDA, else Apple's MPS, else CPU.

    Raises:
        ModelError: there is no such device.
    """
    if device != "auto":
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise ModelError(f"device {device!r} is not a torch device: {error}") from error
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise ModelError(
                f"device {device!r} was asked for, but this machine has no usable CUDA device"
            )
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def resolve_dtype(dtype: str, device: torch.device, name: str) -> torch.dtype:
    """Return the torch dtype of an option value (see :class:`ModelOptions`).

    Raises:
        ModelError: torch has no such floating-point type.
    """
    if dtype != "auto":
        chosen = getattr(torch, dtype, None)
        if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
            raise ModelError(
                f"dtype {dtype!r} is not valid.{nearest(dtype, ['float32', 'bfloat16', 'float16'])}"
            )
        return chosen
    if device.type != "cuda" or name.startswith(PREFIX):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
