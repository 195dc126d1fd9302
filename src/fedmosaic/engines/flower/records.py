"""Carry bytes in a message of Flower: one array of bytes, which Flower cuts into pieces itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedmosaic.errors import UpdateError

if TYPE_CHECKING:
    from flwr.app import RecordDict

NAME = "fedmosaic"
DTYPE = "uint8"


def to_record(payload: bytes) -> RecordDict:
    """Return the content of a message that carries ``payload``."""
    from flwr.app import Array, ArrayRecord, RecordDict

    array = Array(dtype=DTYPE, shape=(len(payload),), stype="bytes", data=payload)
    return RecordDict({NAME: ArrayRecord({NAME: array})})


def from_record(content: RecordDict) -> bytes:
    """Return the bytes that the content of a message carries.

    Raises:
        UpdateError: it carries something else.
    """
    arrays = content.array_records.get(NAME)
    array = None if arrays is None else arrays.get(NAME)
    if array is None or len(content) != 1 or len(arrays) != 1 or array.dtype != DTYPE:
        raise UpdateError("a message of Flower carries something other than one block of bytes")
    return bytes(array.data)
