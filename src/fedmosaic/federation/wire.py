"""Write messages as bytes, and check what arrives before anything uses it.

The bytes are those of :mod:`fedmosaic.packing`. Checkpoints hold the same format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fedmosaic import packing
from fedmosaic.adapters import not_finite
from fedmosaic.adapters.keys import in_scope
from fedmosaic.algorithms.message import Message
from fedmosaic.errors import CheckpointError, UpdateError

SIZE_LIMIT = 2 << 30


class Expected(NamedTuple):
    """Describe a tensor of an update.

    Attributes:
        kind: ``float`` for weights, ``integer`` for token ids.
        shape: its shape.
    """

    kind: Literal["float", "integer"]
    shape: tuple[int, ...]


Schema = Mapping[str, Expected]


def pack(message: Message) -> bytes:
    """Return the message as bytes."""
    return packing.pack(message.tensors, message.scalars)


def unpack(payload: bytes, limit: int = SIZE_LIMIT, *, share: bool = False) -> Message:
    """Return the message in ``payload``.

    Args:
        payload: bytes of :func:`pack`.
        limit: the most bytes that are accepted.
        share: its tensors are views of the payload, to read only; else copies.

    Raises:
        UpdateError: more than ``limit`` bytes, or not a message.
    """
    if len(payload) > limit:
        raise UpdateError(f"the message has {len(payload):,} bytes; at most {limit:,} are accepted")
    try:
        return Message(*packing.unpack(payload, share=share))
    except ValueError as error:
        raise UpdateError(f"the message is damaged or not a fedmosaic message: {error}") from error


def schema_of(message: Message) -> dict[str, Expected]:
    """Return kinds and shapes of a message's tensors, by name.

    Raises:
        UpdateError: a type that may not be sent (bool, complex).
    """
    return {
        name: Expected(_kind(name, value), tuple(value.shape))
        for name, value in message.tensors.items()
    }


def check(message: Message, schema: Schema) -> None:
    """Check that a message has exactly the tensors of ``schema``, and that all are finite.

    Raises:
        UpdateError: a missing or unexpected tensor, another shape or kind, NaN or Inf.
    """
    missing = sorted(set(schema) - set(message.tensors))
    extra = sorted(set(message.tensors) - set(schema))
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"has an unexpected tensor {extra[0]!r}"
        raise UpdateError(f"the update {what} ({len(missing)} missing, {len(extra)} unexpected)")
    for name, value in message.tensors.items():
        kind, shape = schema[name]
        if tuple(value.shape) != tuple(shape):
            raise UpdateError(f"{name!r} has shape {list(value.shape)}, expected {list(shape)}")
        if _kind(name, value) != kind:
            expected = "an integer" if kind == "integer" else "floating point"
            raise UpdateError(f"{name!r} is {value.dtype}, expected {expected}")
    bad = not_finite(
        {name: value for name, value in message.tensors.items() if value.is_floating_point()}
    )
    if bad is not None:
        raise UpdateError(f"{bad!r} holds NaN or Inf")


def check_shared(schemas: Mapping[str, Schema]) -> None:
    """Raise UpdateError, naming two clients, unless shared tensors have one shape everywhere."""
    seen: dict[str, tuple[str, tuple[int, ...]]] = {}
    different: dict[int, tuple[str, Schema]] = {}  # clients of one architecture share an object
    for client, schema in schemas.items():
        different.setdefault(id(schema), (client, schema))
    for client, schema in different.values():
        for name, (_, shape) in in_scope(schema, "block").items():
            other, expected = seen.setdefault(name, (client, shape))
            if shape != expected:
                raise UpdateError(
                    f"clients {other!r} and {client!r} cannot share {name!r}: {list(expected)} and "
                    f"{list(shape)}; give both adapters the same rank"
                )


def _kind(name: str, value: Tensor) -> Literal["float", "integer"]:
    if value.is_floating_point():
        return "float"
    if value.dtype == torch.bool or value.is_complex():
        raise UpdateError(
            f"{name!r} is {value.dtype}; only integers and floating-point numbers can be sent"
        )
    return "integer"


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and JSON values to a file of a checkpoint, inside an ``atomic_folder``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packing.write(path, tensors, scalars or {})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and JSON values of a file of a checkpoint.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        message = unpack(path.read_bytes(), limit=1 << 50)
    except (OSError, UpdateError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. Remove its checkpoint folder to continue from the "
            "one before"
        ) from error
    return dict(message.tensors), dict(message.scalars)
