"""Image features that the runs of a comparison share: what one process has computed, the others read from a file."""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path

from torch import Tensor

from fedmosaic.packing import pack, unpack

LIMIT = 4 << 30  # bytes
_NAME = "features"
_TABLE = "CREATE TABLE IF NOT EXISTS features (tower TEXT, picture TEXT, packed BLOB, PRIMARY KEY (tower, picture)) WITHOUT ROWID"


class SharedFeatures:
    """Features by tower and picture, in an SQLite file that any number of processes of one machine read and write.

    It saves time and nothing else: whatever is wrong with the file (a full disk, a file of another kind), a warning says so once, and
    from then on every picture is computed again.

    Args:
        path: the file, made if there is none. Who named it removes it.
        limit: bytes of the file beyond which nothing is added.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self._file: sqlite3.Connection | None = None
        try:
            self._file = sqlite3.connect(
                path, timeout=60, isolation_level=None, check_same_thread=False
            )
            # Does not wait for the disk at every picture: what a crash of the machine loses is computed again, the file stays whole.
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_TABLE)
        except sqlite3.Error as error:
            self._give_up(error)

    def find(self, tower: str, picture: str) -> Tensor | None:
        """The features of a picture exactly as they were added, or None."""
        if self._file is None:
            return None
        try:
            found = self._file.execute(
                "SELECT packed FROM features WHERE tower = ? AND picture = ?", (tower, picture)
            ).fetchone()
            return None if found is None else unpack(found[0])[0][_NAME]
        except (sqlite3.Error, ValueError, KeyError) as error:
            self._give_up(error)
            return None

    def add(self, tower: str, picture: str, features: Tensor) -> None:
        """Keep the features of a picture, if nobody has and there is room."""
        if self._file is None:
            return
        try:
            ((size,),) = self._file.execute(
                "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
            )
            if size < self.limit:
                row = (tower, picture, pack({_NAME: features.contiguous()}, {}))
                self._file.execute("INSERT OR IGNORE INTO features VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Leave the file to the others."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _give_up(self, error: Exception) -> None:
        warnings.warn(f"image features are not shared through {self.path}: {error}", stacklevel=3)
        self.close()
