"""Share out the server's memory, and read and write its files of rows."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fedmosaic.errors import CheckpointError

FLOAT = 4
# Rows are read and written in blocks of about this many bytes.
BLOCK = 1 << 28


class Storage:
    """Share out memory, and make files in a folder of the server's own.

    Args:
        limit: the most bytes that all rows may take in memory; None: no limit.
        folder: for the files beyond it; None: a temporary folder, made when it is first needed.
    """

    def __init__(self, limit: int | None = None, folder: Path | None = None) -> None:
        self.limit, self.used = limit, 0
        self._folder, self._made, self._count = folder, False, 0

    def reserve(self, size: int) -> bool:
        """Take ``size`` bytes of the memory; return False, taking none, if they are not left."""
        if self.limit is not None and self.used + size > self.limit:
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Give memory back."""
        self.used -= size

    @property
    def block(self) -> int:
        """Return how many bytes may be worked on at a time beside the rows."""
        return BLOCK if self.limit is None else max(1 << 16, min(BLOCK, self.limit // 4))

    def stack_size(self, values: int, count: int) -> int:
        """Return how many of ``count`` rows may be stacked: all that fit the limit, else a few."""
        size = values * FLOAT
        if self.limit is None or count * size <= self.limit:
            return count
        return max(1, self.block // max(1, size))

    def new_file(self, kind: str) -> Path:
        """Return the path of a new file."""
        if not self._made:
            self._made = True
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="fedmosaic-server-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
        assert self._folder is not None
        self._count += 1
        return self._folder / f"{kind}-{os.getpid()}-{self._count}"

    def close(self) -> None:
        """Remove the folder with everything in it."""
        if self._made and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._made = False


class Segment:
    """Read and write the rows of one file.

    Args:
        path: the file; made if ``count`` is None.
        values: length of a row.
        count: number of rows that the file must have; None for a new one.

    Raises:
        CheckpointError: the file is missing or has another length.
    """

    def __init__(self, path: Path, values: int, count: int | None = None) -> None:
        self.path, self.values, self.count = path, values, count or 0
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL if count is None else os.O_RDONLY
            self._file = os.open(path, flags, 0o644)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from error
        weakref.finalize(self, os.close, self._file)
        size, expected = os.fstat(self._file).st_size, self.count * values * FLOAT
        if size != expected:
            raise CheckpointError(
                f"{path} is damaged: it has {size:,} bytes instead of {expected:,}. Remove its "
                "checkpoint folder to continue from the one before"
            )

    def write(self, row: int, start: int, values: Tensor) -> None:
        """Write values [c] of a row from column ``start`` on."""
        if not len(values):
            return
        view = values.contiguous().numpy().data.cast("B")
        offset = (row * self.values + start) * FLOAT
        while view:
            done = os.pwrite(self._file, view, offset)
            view, offset = view[done:], offset + done

    def read(self, row: int, start: int, into: np.ndarray[Any, Any]) -> None:
        """Read values of a row from column ``start`` on into a vector [c]."""
        if not len(into):
            return
        view = into.data.cast("B")
        offset = (row * self.values + start) * FLOAT
        while view:
            done = os.preadv(self._file, [view], offset)
            if not done:
                raise CheckpointError(f"{self.path} is damaged: it is cut off")
            view, offset = view[done:], offset + done

    def delete(self) -> None:
        """Remove the file; links to it in checkpoints stay."""
        self.path.unlink(missing_ok=True)
