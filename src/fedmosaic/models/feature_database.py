"""Share image features between the processes of a comparison through a file."""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path

from fedmosaic.models.feature_cache import LIMIT, StoredFeatures
from fedmosaic.packing import pack, unpack

_LAYOUT = "layout"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS features "
    "(tower TEXT, picture TEXT, packed BLOB, PRIMARY KEY (tower, picture)) WITHOUT ROWID"
)


class FeatureDatabase:
    """Store features by tower and image in an SQLite file, for several processes of one machine.

    The file only saves time. If it cannot be used (a full disk, a file of another kind), one
    warning says so, and from then on every image is computed again.

    Args:
        path: The file; it is made if there is none. The caller removes it.
        limit: Size in bytes beyond which nothing is added.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self._file: sqlite3.Connection | None = None
        try:
            self._file = sqlite3.connect(
                path, timeout=60, isolation_level=None, check_same_thread=False
            )
            # Do not wait for the disk at every image: features that a crash of the machine loses
            # are computed again, and the file stays valid.
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_TABLE)
        except sqlite3.Error as error:
            self._give_up(error)

    def find(self, tower: str, image: str) -> StoredFeatures | None:
        """Return the features of an image exactly as they were added, or None."""
        if self._file is None:
            return None
        try:
            found = self._file.execute(
                "SELECT packed FROM features WHERE tower = ? AND picture = ?", (tower, image)
            ).fetchone()
            if found is None:
                return None
            tensors, scalars = unpack(found[0])
            ordered = (tensors[str(number)] for number in range(len(tensors)))
            return StoredFeatures(tuple(ordered), scalars[_LAYOUT])
        except (sqlite3.Error, ValueError, KeyError) as error:
            self._give_up(error)
            return None

    def add(self, tower: str, image: str, features: StoredFeatures) -> None:
        """Store the features of an image, if they are not there yet and the file has room."""
        if self._file is None:
            return
        try:
            ((size,),) = self._file.execute(
                "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
            )
            if size < self.limit:
                tensors = {
                    str(number): tensor.contiguous()
                    for number, tensor in enumerate(features.tensors)
                }
                row = (tower, image, pack(tensors, {_LAYOUT: features.layout}))
                self._file.execute("INSERT OR IGNORE INTO features VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file; other processes may still use it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _give_up(self, error: Exception) -> None:
        warnings.warn(f"image features are not shared through {self.path}: {error}", stacklevel=3)
        self.close()
