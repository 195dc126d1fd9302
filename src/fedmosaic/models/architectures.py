"""Find out which of a scenario's model names mean one model, and so one architecture.

Two names mean one model where they lead to one folder or file (relative or absolute, with ``~`` or
through a link), and where two folders hold copies: the same weights, config, tokenizer and
processor. Nothing is loaded for that but what is compared.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from fedmosaic.errors import ModelError
from fedmosaic.models.checkpoint import check_weight_files
from fedmosaic.models.fingerprint import describe
from fedmosaic.models.kinds import takes_images
from fedmosaic.models.loading import load_tokenizer
from fedmosaic.models.names import PREFIX, Source, locate
from fedmosaic.models.options import ModelOptions
from fedmosaic.models.processors import load_processor

Index = dict[str, tuple[Path, str, tuple[int, ...]]]


def architectures(names: Sequence[str]) -> dict[str, str]:
    """Return for each model name the first of ``names`` that means the same model.

    A name that leads to no model is its own architecture: the error comes when it is loaded.
    """
    return dict(_architectures(tuple(dict.fromkeys(names)), Path.cwd()))


@lru_cache(maxsize=64)
def _architectures(names: tuple[str, ...], _: Path) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for name in names:
        first = dict.fromkeys(found.values())
        found[name] = next((other for other in first if same_model(other, name)), name)
    return tuple(found.items())


def same_model(one: str, other: str) -> bool:
    """Return whether two names mean one model.

    Hugging Face ids and models in Python packages are compared by name only.
    """
    if one == other:
        return True
    if one.startswith(PREFIX) and other.startswith(PREFIX):
        return False
    places = [_local(name) for name in (one, other)]
    if places[0] is None or places[1] is None:
        return False
    first, second = places[0], places[1]
    if first.resolve() == second.resolve():
        return True
    if first.is_file() and second.is_file():
        return filecmp.cmp(first, second, shallow=False)
    return first.is_dir() and second.is_dir() and _copies(first, second)


def _local(name: str) -> Path | None:
    """Return the folder or GGUF file of a model; None for other names."""
    if not name.startswith(PREFIX) and not Path(name).expanduser().exists():
        return None
    with suppress(ModelError):
        source = locate(name)
        return Path(source.place) / source.gguf if source.gguf else source.folder
    return None


def _copies(one: Path, other: Path) -> bool:
    """Return whether two model folders hold the same model, however its files are cut."""
    try:
        indices = [_index(folder) for folder in (one, other)]
        if _shapes(indices[0]) != _shapes(indices[1]) or _about(one) != _about(other):
            return False
        return all(
            torch.equal(_tensor(indices[0], key), _tensor(indices[1], key)) for key in indices[0]
        )
    except Exception:  # whatever is wrong with a folder is told when it is loaded
        return False


def _index(folder: Path) -> Index:
    """Return file, dtype and shape of each tensor of a model folder."""
    found: Index = {}
    for path in check_weight_files(str(folder), folder):
        with safe_open(str(path), framework="pt") as file:
            for key in list(file.keys()):
                part = file.get_slice(key)
                found[key] = (path, str(part.get_dtype()), tuple(part.get_shape()))
    return found


def _shapes(index: Index) -> dict[str, Any]:
    return {key: entry[1:] for key, entry in index.items()}


def _tensor(index: Index, key: str) -> torch.Tensor:
    with safe_open(str(index[key][0]), framework="pt") as file:
        found: torch.Tensor = file.get_tensor(key)
    return found.view(torch.uint8) if found.ndim else found.reshape(1).view(torch.uint8)


def _about(folder: Path) -> str:
    """Return what identifies a model folder beside its weights."""
    from transformers import AutoConfig

    source, options = Source(str(folder)), ModelOptions()
    config = AutoConfig.from_pretrained(source.place)
    tokenizer = load_tokenizer(str(folder), source, options)
    processor = None
    if takes_images(config):
        processor = load_processor(source.place, config, tokenizer, {})
    about = describe(config, tokenizer, processor)
    return json.dumps(about, sort_keys=True, default=str)
