"""Cache image features in a temporary file, the oldest out first."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fedmosaic.errors import FedMosaicError

LIMIT = 4 << 30  # bytes
RECENT = 8 << 20  # bytes; small features are read from main memory


@dataclass(frozen=True)
class StoredFeatures:
    """Hold the features of an image, or of images that are processed together.

    Attributes:
        tensors: The tensors, in order.
        layout: How they are arranged (:mod:`fedmosaic.models.images`).
    """

    tensors: tuple[Tensor, ...]
    layout: str = ""


Form = tuple[tuple[tuple[tuple[int, ...], torch.dtype], ...], str]
"""Hold shape and dtype of each tensor, and how the tensors are arranged."""


@dataclass(frozen=True, slots=True)
class _Entry:
    place: int
    size: int
    form: Form


class FeatureCache:
    """Cache features of any shape in a temporary file, the oldest out first.

    A run meets more and more images, whose features would fill the memory of the process (576
    tokens of a CLIP tower take 2 MB). In a file they take none of it, and the operating system
    caches what is used again. The file has no name and disappears with the process. It is written
    from its beginning to its limit and then again from its beginning; what a new entry overwrites
    is forgotten. Small features that were used last are in main memory as well, because a client
    uses the same ones in many steps.

    Args:
        limit: Largest size of the file in bytes.
        recent: Most bytes in main memory.
    """

    def __init__(self, limit: int = LIMIT, recent: int = RECENT) -> None:
        self.limit = limit
        self.recent = recent
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._forms: dict[Form, Form] = {}  # entries of one form share it
        self._end = 0
        self._held: OrderedDict[str, StoredFeatures] = OrderedDict()
        self._held_bytes = 0

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Return the bytes of all entries."""
        return sum(entry.size for entry in self._entries.values())

    @cached_property
    def _file(self) -> Any:
        return tempfile.TemporaryFile(buffering=0)

    def __getitem__(self, key: str) -> StoredFeatures:
        entry = self._entries[key]
        if key in self._held:
            self._held.move_to_end(key)
        else:
            found = self._read(entry)
            if not self._hold(key, found):
                return found
        held = self._held[key]
        return StoredFeatures(tuple(tensor.clone() for tensor in held.tensors), held.layout)

    def _hold(self, key: str, value: StoredFeatures) -> bool:
        """Hold small features in place of those used least recently; return whether it is done."""
        size = _size(value)
        if size > self.recent // 64:
            return False
        self._held[key] = value
        self._held_bytes += size
        while self._held_bytes > self.recent:
            self._held_bytes -= _size(self._held.popitem(last=False)[1])
        return True

    def _read(self, entry: _Entry) -> StoredFeatures:
        self._file.seek(entry.place)
        tensors = []
        shapes, layout = entry.form
        for shape, dtype in shapes:
            value = torch.empty(shape, dtype=dtype)
            self._file.readinto(_bytes(value))
            tensors.append(value)
        return StoredFeatures(tuple(tensors), layout)

    def __setitem__(self, key: str, value: StoredFeatures) -> None:
        """Store features, unless they are there already or larger than the limit.

        Raises:
            FedMosaicError: the disk is full.
        """
        size = _size(value)
        if key in self._entries or size > self.limit:
            return
        start = self._end if self._end + size <= self.limit else 0
        self._drop(start, start + size)
        try:
            self._file.seek(start)
            for tensor in value.tensors:
                if self._file.write(_bytes(tensor.contiguous())) < tensor.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise FedMosaicError(
                f"image features cannot be stored in {tempfile.gettempdir()}: {error.strerror}; "
                "set the variable TMPDIR to a folder with more room"
            ) from error
        shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in value.tensors)
        form = self._forms.setdefault((shapes, value.layout), (shapes, value.layout))
        self._entries[key] = _Entry(start, size, form)
        self._end = start + size

    def _drop(self, start: int, stop: int) -> None:
        """Drop the oldest entries until none lies between ``start`` and ``stop``.

        Entries are in the order in which they were written, and the file is written in order: those
        in the way are the oldest, after the ones at its end that were left there when writing went
        back to its beginning.
        """
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            behind = start == 0 and entry.place >= self._end
            if not behind and not (entry.place < stop and entry.place + entry.size > start):
                return
            del self._entries[key]


def _size(value: StoredFeatures) -> int:
    return sum(tensor.nbytes for tensor in value.tensors)


def _bytes(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU."""
    return tensor.view(-1).view(torch.uint8).numpy().data
