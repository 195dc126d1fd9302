"""The one wire format: a message as bytes, and the check of what arrives before anything uses it.

The bytes are a safetensors file that holds one flat vector for each type of value (hundreds of small tensors would cost more one
by one), a JSON manifest of names and shapes, and the scalars. Nothing in it can execute. Checkpoints hold the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file
from torch import Tensor

from fedmosaic.adapters import not_finite
from fedmosaic.algorithms.message import Message
from fedmosaic.errors import CheckpointError, UpdateError

Schema = Mapping[str, tuple[int, ...]]
SIZE_LIMIT = 2 << 30
CONTENT = "content"


def pack(message: Message) -> bytes:
    """The message as bytes."""
    vectors, metadata = _flatten(message.tensors, message.scalars)
    return bytes(save(vectors, metadata=metadata))


def unpack(payload: bytes, limit: int = SIZE_LIMIT) -> Message:
    """The message in ``payload``. Raises UpdateError if it is too large or not a message."""
    if len(payload) > limit:
        raise UpdateError(f"the message has {len(payload):,} bytes; at most {limit:,} are accepted")
    try:
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
        content = json.loads(header["__metadata__"][CONTENT])
        return Message(_split(load(payload), content["manifest"]), content["scalars"])
    except (SafetensorError, ValueError, AttributeError, TypeError, KeyError, RuntimeError) as error:
        raise UpdateError(f"the message is damaged or not a fedmosaic message: {error}") from error


def _flatten(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """One flat vector for each type, and the metadata that says what they hold."""
    kinds: dict[str, list[str]] = {}
    for name, value in tensors.items():
        kinds.setdefault(str(value.dtype).removeprefix("torch."), []).append(name)
    vectors = {
        kind: torch.cat([tensors[name].detach().reshape(-1).cpu() for name in names]) for kind, names in kinds.items()
    }
    manifest = {kind: [[name, list(tensors[name].shape)] for name in names] for kind, names in kinds.items()}
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
        if any(extent < 0 for _, shape in entries for extent in shape) or sum(sizes) != vectors[kind].numel():
            raise ValueError("its manifest does not add up to what it holds")
        for (name, shape), part in zip(entries, vectors[kind].split(sizes), strict=True):
            if name in tensors:
                raise ValueError(f"it holds {name!r} twice")
            tensors[name] = part.view(shape)
    return tensors


def schema_of(message: Message) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a message's tensors."""
    return {name: tuple(value.shape) for name, value in message.tensors.items()}


def check(message: Message, schema: Schema) -> None:
    """Raise UpdateError unless the message has exactly the tensors of ``schema``, floating point and finite."""
    missing = sorted(set(schema) - set(message.tensors))
    extra = sorted(set(message.tensors) - set(schema))
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"has an unexpected tensor {extra[0]!r}"
        raise UpdateError(f"the update {what} ({len(missing)} missing, {len(extra)} unexpected)")
    for name, value in message.tensors.items():
        if tuple(value.shape) != tuple(schema[name]):
            raise UpdateError(f"{name!r} has shape {list(value.shape)}, expected {list(schema[name])}")
        if not value.is_floating_point():
            raise UpdateError(f"{name!r} is {value.dtype}, expected floating point")
    bad = not_finite(message.tensors)
    if bad is not None:
        raise UpdateError(f"{bad!r} holds NaN or Inf")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any] | None = None) -> None:
    """Write tensors and plain values (anything JSON takes) to a file of a checkpoint, inside an ``atomic_folder``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vectors, metadata = _flatten(tensors, scalars or {})
    save_file(vectors, path, metadata=metadata)
    path.chmod(0o644)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain values of a file. Raises CheckpointError naming it if it is missing or damaged."""
    try:
        message = unpack(path.read_bytes(), limit=1 << 50)
    except (OSError, UpdateError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. Remove its checkpoint folder to continue from the one before"
        ) from error
    return dict(message.tensors), dict(message.scalars)
