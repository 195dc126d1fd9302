"""Examine image files once, and remember on disk what was found of each."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import PIL

from fedmosaic.files import cache_root

# To be raised with every change of what is found of a file.
_VERSION = 1
_TABLE = (
    "CREATE TABLE IF NOT EXISTS images (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, "
    "ctime INTEGER, reader TEXT, key TEXT, fault TEXT, height INTEGER, width INTEGER) "
    "WITHOUT ROWID"
)
_AT_ONCE = 500
_SETTLED = 2 * 10**9
"""A file changed this many nanoseconds ago or less may change another time without a trace."""


class FileFacts(NamedTuple):
    """Hold what was found of an image file.

    Attributes:
        key: hash of its bytes.
        fault: what is wrong with it, for a message that begins with its name; empty: nothing.
        size: height and width as it is shown.
    """

    key: str
    fault: str
    size: tuple[int, int]


class FileStamp(NamedTuple):
    """Hold what changes when a file is written: its size, and two times in nanoseconds."""

    size: int
    mtime: int
    ctime: int

    @classmethod
    def of(cls, path: Path) -> FileStamp | None:
        """Return the stamp of a file; None if there is none."""
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def settled(self) -> bool:
        """Return whether a later change of the file would change this stamp."""
        return max(self.mtime, self.ctime) < time.time_ns() - _SETTLED


class ExaminedFiles:
    """Store what was found of image files in an SQLite file, for all processes of a machine.

    What is stored of a file counts as long as its size and times are the same. The SQLite file only
    saves time: if it cannot be used, one warning says so, and every image is examined anew.

    Args:
        path: the SQLite file; default ``images.sqlite`` in the cache
            (:func:`fedmosaic.files.cache_root`).
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_root() / "images.sqlite"
        self._file: sqlite3.Connection | None = None
        self._reader = f"{_VERSION} {PIL.__version__}"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            # Rows that a crash of the machine loses are found another time.
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def __enter__(self) -> ExaminedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, stamps: Iterable[tuple[Path, FileStamp]]) -> dict[Path, FileFacts]:
        """Return what is known of the files that still have these stamps."""
        known: dict[Path, FileFacts] = {}
        for part in _parts(list(stamps)):
            if self._file is None:
                break
            names = {_name(path): (path, stamp) for path, stamp in part}
            marks = ", ".join("?" * len(names))
            query = f"SELECT * FROM images WHERE path IN ({marks}) AND reader = ?"
            try:
                rows = self._file.execute(query, (*names, self._reader)).fetchall()
            except sqlite3.Error as error:
                self._give_up(error)
                break
            for name, size, mtime, ctime, _, key, fault, height, width in rows:
                path, stamp = names[name]
                if stamp == (size, mtime, ctime):
                    known[path] = FileFacts(key, fault, (height, width))
        return known

    def add(self, found: Iterable[tuple[Path, FileStamp, FileFacts]]) -> None:
        """Store what was found of files that had these stamps before they were read."""
        rows = [
            (_name(path), *stamp, self._reader, facts.key, facts.fault, *facts.size)
            for path, stamp, facts in found
            if stamp.settled
        ]
        if self._file is None or not rows:
            return
        try:
            self._file.execute("BEGIN IMMEDIATE")
            marks = ", ".join("?" * len(rows[0]))
            self._file.executemany(f"INSERT OR REPLACE INTO images VALUES ({marks})", rows)
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file; other processes may still use it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _give_up(self, error: Exception) -> None:
        warnings.warn(
            f"what was found of images is not remembered in {self.path}: {error}", stacklevel=3
        )
        self.close()


def _name(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))


def _parts(
    entries: Sequence[tuple[Path, FileStamp]],
) -> Iterator[Sequence[tuple[Path, FileStamp]]]:
    for start in range(0, len(entries), _AT_ONCE):
        yield entries[start : start + _AT_ONCE]
