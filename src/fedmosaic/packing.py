"""Serialise named tensors and plain values: the format of messages, checkpoints and alignments.

The bytes are a safetensors file. It holds one flat vector for each dtype (hundreds of small tensors
would take more time one by one), a JSON manifest of names and shapes, and the plain values. It
contains no code. Equal content gives equal bytes.
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
    """Serialise tensors and plain values (any JSON) to bytes."""
    vectors, metadata = _flatten(tensors, scalars)
    return bytes(save(vectors, metadata=metadata))


def write(path: Path, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """Write the bytes of :func:`pack` to a file without holding them in memory; not atomic."""
    vectors, metadata = _flatten(tensors, scalars)
    save_file(vectors, path, metadata=metadata)
    path.chmod(0o644)


def unpack(payload: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and plain values back from bytes of :func:`pack`.

    Raises:
        ValueError: the bytes are not of :func:`pack`; the message has the reason.
    """
    try:
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
        content = json.loads(header["__metadata__"][CONTENT])
        return _split(load(payload), content["manifest"]), dict(content["scalars"])
    except (SafetensorError, AttributeError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(str(error)) from error


def read_some(path: Path, wanted: Callable[[str], bool]) -> tuple[list[str], dict[str, Tensor]]:
    """Read some tensors of a file of :func:`write`, without reading the others.

    Args:
        path: The file.
        wanted: Takes the name of a tensor and returns whether to read it.

    Returns:
        The names of all tensors, and the wanted tensors by name.

    Raises:
        ValueError: the file is not of :func:`write`; the message has the reason.
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
    """Return one flat vector for each dtype, and metadata with the manifest."""
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
    # One entry: safetensors has no fixed order of several, but equal messages must be equal bytes.
    content = json.dumps({"manifest": manifest, "scalars": dict(scalars)}, sort_keys=True)
    return vectors, {CONTENT: content}


def _split(vectors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of the manifest as views of the flat vectors.

    Raises:
        ValueError: the manifest and the vectors do not agree.
    """
    if set(vectors) != set(manifest):
        raise ValueError("its manifest lists other dtypes than it holds")
    tensors: dict[str, Tensor] = {}
    for kind, entries in manifest.items():
        sizes = [math.prod(shape) for _, shape in entries]
        if (
            any(extent < 0 for _, shape in entries for extent in shape)
            or sum(sizes) != vectors[kind].numel()
        ):
            raise ValueError("the shapes in its manifest do not add up to the values it holds")
        for (name, shape), part in zip(entries, vectors[kind].split(sizes), strict=True):
            if name in tensors:
                raise ValueError(f"its manifest lists {name!r} twice")
            tensors[name] = part.view(shape)
    return tensors
