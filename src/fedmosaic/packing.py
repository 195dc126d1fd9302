"""Named tensors and plain values as bytes: the one form of messages, checkpoints and stored alignments.

The bytes are a safetensors file that holds one flat vector for each type of value (hundreds of small tensors would cost more one
by one), a JSON manifest of names and shapes, and the plain values. Nothing in it can execute. Equal content is equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

CONTENT = "content"


def pack(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> bytes:
    """Tensors and plain values (anything JSON takes) as bytes."""
    vectors, metadata = _flatten(tensors, scalars)
    return bytes(save(vectors, metadata=metadata))


def write(path: Path, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """The bytes of :func:`pack` into a file, without holding them in memory as well; not atomic."""
    vectors, metadata = _flatten(tensors, scalars)
    save_file(vectors, path, metadata=metadata)
    path.chmod(0o644)


def unpack(payload: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`pack` was given. Raises ValueError, with the reason, for any other bytes."""
    try:
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
        content = json.loads(header["__metadata__"][CONTENT])
        return _split(load(payload), content["manifest"]), dict(content["scalars"])
    except (SafetensorError, AttributeError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(str(error)) from error


def read_some(path: Path, wanted: Callable[[str], bool]) -> tuple[list[str], dict[str, Tensor]]:
    """The names of all tensors in a file that :func:`write` made, and those tensors that are wanted; no others are read.

    Raises:
        ValueError: with the reason, for any other file.
    """
    try:
        with safe_open(path, "pt") as stored:
            manifest = json.loads(stored.metadata()[CONTENT])["manifest"]
            names, found = [], {}
            for kind, entries in manifest.items():
                vector, start = stored.get_slice(kind), 0
                for name, shape in entries:
                    end = start + math.prod(shape)
                    names.append(name)
                    if wanted(name):
                        found[name] = vector[start:end].view(shape)
                    start = end
            return names, found
    except (SafetensorError, AttributeError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(str(error)) from error


def _flatten(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """One flat vector for each type, and the metadata that says what they hold."""
    kinds: dict[str, list[str]] = {}
    for name, value in tensors.items():
        kinds.setdefault(str(value.dtype).removeprefix("torch."), []).append(name)
    vectors = {
        kind: torch.cat([tensors[name].detach().reshape(-1).cpu() for name in names])
        for kind, names in kinds.items()
    }
    manifest = {
        kind: [[name, list(tensors[name].shape)] for name in names] for kind, names in kinds.items()
    }
    # One entry: safetensors writes several in no fixed order, and equal messages must be equal bytes.
    content = json.dumps({"manifest": manifest, "scalars": dict(scalars)}, sort_keys=True)
    return vectors, {CONTENT: content}


def _split(vectors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors that the manifest names, as views of the flat vectors; ValueError where the two do not agree."""
    if set(vectors) != set(manifest):
        raise ValueError("its manifest names other types than it holds")
    tensors: dict[str, Tensor] = {}
    for kind, entries in manifest.items():
        sizes = [math.prod(shape) for _, shape in entries]
        if (
            any(extent < 0 for _, shape in entries for extent in shape)
            or sum(sizes) != vectors[kind].numel()
        ):
            raise ValueError("its manifest does not add up to what it holds")
        for (name, shape), part in zip(entries, vectors[kind].split(sizes), strict=True):
            if name in tensors:
                raise ValueError(f"it holds {name!r} twice")
            tensors[name] = part.view(shape)
    return tensors
