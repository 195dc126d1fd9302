"""Load the frozen network, tokenizer and processor of a model by its name.

Every way that a load goes wrong is a ModelError of one sentence. Nothing is unpickled, and no
weight is left at random.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fedmosaic.errors import ModelError
from fedmosaic.models import packaged
from fedmosaic.models.checkpoint import (
    check_gguf_file,
    check_processor_files,
    check_tokenizer_files,
    check_weight_files,
    read_json,
)
from fedmosaic.models.host import answer_on_host
from fedmosaic.models.kinds import check_kind, check_model_type, takes_images
from fedmosaic.models.load_checks import check_processor, check_tokenizer, check_weights
from fedmosaic.models.load_errors import explained
from fedmosaic.models.merged import base_of, merge
from fedmosaic.models.names import ADAPTER_CONFIG, PREFIX, Source, bundled_names, locate
from fedmosaic.models.options import ModelOptions, resolve_device, resolve_dtype
from fedmosaic.models.processors import load_processor
from fedmosaic.models.quantised import check_quantised, is_quantised, quantisation, settle

__all__ = [
    "ModelOptions",
    "bundled_names",
    "load_pretrained",
    "locate",
    "resolve_device",
    "resolve_dtype",
]


def load_pretrained(name: str, options: ModelOptions) -> tuple[Any, Any, Any | None]:
    """Load the frozen network, its tokenizer and (for vision-language models) its processor.

    The folder of a LoRA is loaded as its base model with the LoRA merged in.

    Returns:
        The model in evaluation mode, on its device, without gradients; its tokenizer; its processor
        or None.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
    """
    options.check()
    source = locate(name)
    folder = source.folder
    if folder is not None and not source.gguf and (folder / ADAPTER_CONFIG).is_file():
        return _load_with_adapter(name, folder, options)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device, name)
    with explained(name, source, attention=options.attn_implementation), _quiet(name):
        config = read_config(name, source, options)
        model = _load_model(name, source, options, config, device, dtype)
        tokenizer = load_tokenizer(name, source, options)
        processor = None
        if takes_images(config):
            if source.folder is not None:
                check_processor_files(name, source.folder)
            processor = load_processor(source.place, config, tokenizer, _common(source, options))
        check_tokenizer(name, model, tokenizer)
        check_processor(name, config, processor)
    if device.type != "cpu":
        answer_on_host(model)
    return model.eval().requires_grad_(False), tokenizer, processor


def load_tokenizer(name: str, source: Source, options: ModelOptions) -> Any:
    """Load a model's tokenizer."""
    from transformers import AutoTokenizer

    if source.folder is not None and not source.gguf:
        check_tokenizer_files(name, source.folder)
    with explained(name, source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source.place, **_common(source, options))


def _load_with_adapter(name: str, folder: Path, options: ModelOptions) -> tuple[Any, Any, Any]:
    base = base_of(name, folder)
    if Path(base).expanduser().resolve() == folder.resolve():
        raise ModelError(f"model {name!r} is an adapter that names itself as its base model")
    try:
        model, tokenizer, processor = load_pretrained(base, options)
    except ModelError as error:
        raise ModelError(f"model {name!r} is an adapter, and its base: {error}") from error
    with explained(name, Source(str(folder))):
        if any(folder.glob("tokenizer*.json")):
            tokenizer = load_tokenizer(name, Source(str(folder)), options)
            check_tokenizer(name, model, tokenizer)
            if processor is not None:
                processor.tokenizer = tokenizer
        merged = merge(name, model, folder)
    return merged.eval().requires_grad_(False), tokenizer, processor


def _common(source: Source, options: ModelOptions) -> dict[str, Any]:
    """Return the arguments that config, model, tokenizer and processor are all loaded with."""
    common: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    if source.gguf:
        common["gguf_file"] = source.gguf
    if source.revision:
        common["revision"] = source.revision
    return common


def read_config(name: str, source: Source, options: ModelOptions) -> Any:
    """Return a model's config, and require that its files are there and of a kind that loads.

    Raises:
        ModelError: the model is no model that can be trained here. Errors of other types are those
            of transformers; see :func:`fedmosaic.models.load_errors.explained`.
    """
    from transformers import AutoConfig, PreTrainedConfig

    if not source.gguf:
        if source.folder is not None:
            stored = read_json(name, source.folder / "config.json")
        else:
            place = {"revision": source.revision} if source.revision else {}
            stored, _ = PreTrainedConfig.get_config_dict(source.place, **place)
        check_model_type(name, source, stored, options.trust_remote_code)
        if source.folder is not None:
            check_weight_files(name, source.folder)
    else:
        check_gguf_file(name, Path(source.place) / source.gguf)
    config = AutoConfig.from_pretrained(source.place, **_common(source, options))
    check_kind(name, config)
    return config


def _load_model(
    name: str,
    source: Source,
    options: ModelOptions,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    loader = AutoModelForImageTextToText if takes_images(config) else AutoModelForCausalLM
    extra: dict[str, Any] = {}
    if options.attn_implementation != "auto":
        extra["attn_implementation"] = options.attn_implementation
    if source.gguf:
        if options.quantise != "none":
            raise ModelError(
                f"model {name!r}: the weights of a GGUF file are unpacked when it is loaded, so "
                f"models.quantise: {options.quantise} does not go with it: use none, or a folder "
                "with the weights of the same model"
            )
        extra |= packaged.plain_weights()
    else:
        extra |= quantisation(name, options, config, loader, dtype)
    placed = _placement(options, device, bool(extra.get("quantization_config")), config)
    model, info = loader.from_pretrained(
        source.place,
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told below, with the rest
        **placed,
        **extra,
        **_common(source, options),
    )
    check_weights(name, model, info)
    if not placed:
        return model.to(device)
    _check_places(name, model)
    if "quantization_config" in extra and not source.gguf:
        check_quantised(name, model)
    settle(model)
    return model


def _placement(
    options: ModelOptions, device: torch.device, quantise: bool, config: Any
) -> dict[str, Any]:
    """Return the ``device_map`` of a model that is placed while it loads; else nothing."""
    if options.device_map == "auto" and device.type == "cuda":
        if device.index is not None:
            raise ModelError(
                f"models.device: {options.device} names one card, but models.device_map: auto "
                "takes all: use models.device: cuda"
            )
        return {"device_map": "auto"}
    if (options.quantise != "none" and quantise) or is_quantised(config):
        return {"device_map": {"": device}}
    return {}


def _check_places(name: str, model: Any) -> None:
    """Raise ModelError if a part of the model found no room on the cards."""
    places = getattr(model, "hf_device_map", None) or {}
    left = [part for part, place in places.items() if str(place) in ("cpu", "disk")]
    if left and len(left) < len(places):
        raise ModelError(
            f"model {name!r} does not fit on the cards: {len(left)} of its {len(places)} parts "
            f"would stay in main memory, e.g. {left[0]}; use models.dtype: bfloat16, "
            "models.quantise: 4bit, or more cards"
        )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep Transformers from printing its table of weights, which :func:`check_weights` tells.

    It is also kept from asking a service on the Hub to convert pickled weights, and from drawing
    progress bars where nobody watches them: an error would be lost among them in a log.
    """
    from transformers.utils import logging as transformers_logging

    # A bar of milliseconds, as for a packaged model, is only noise.
    if name.startswith(PREFIX) or not _is_watched():
        transformers_logging.disable_progress_bar()
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_no_report)
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        yield
    finally:
        logger.removeFilter(_no_report)


def _is_watched() -> bool:
    """Return whether standard error is a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()
