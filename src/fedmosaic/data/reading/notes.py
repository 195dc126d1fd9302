"""Collect what a reader has to say about a file: what it does not use, rewrites or guesses."""

from __future__ import annotations

from pathlib import Path

from fedmosaic.data.records import NOT_USED, RecordLocation


class Notes:
    """Collect remarks about the items of a file, one sentence for each kind.

    Args:
        path: the file or folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unused: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._kinds: dict[str, tuple[str, int]] = {}

    def unused(self, field: str, location: RecordLocation) -> None:
        """Note that a field of an item is not used."""
        if self._last.get(field) != location.index:
            self._unused[field] = self._unused.get(field, 0) + 1
            self._last[field] = location.index

    def add(self, kind: str, location: RecordLocation, field: str, message: str) -> None:
        """Note something about a field of an item; of each kind the first one is written out."""
        first, count = self._kinds.get(kind, (f"{location.field(field)}: {message}", 0))
        self._kinds[kind] = (first, count + 1)

    def lines(self) -> list[str]:
        """Return the sentences."""
        found = [
            text + (f" (the same of {count - 1} more items)" if count > 1 else "")
            for text, count in self._kinds.values()
        ]
        if self._unused:
            fields = ", ".join(
                f"{name!r} of {count} item{'s' * (count > 1)}"
                for name, count in self._unused.items()
            )
            found.append(f"{self.path}{NOT_USED}{fields}")
        return found
