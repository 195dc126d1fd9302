"""Read all items of a file or a folder, with what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmosaic.data.example import Example
from fedmosaic.data.reading.files import FILE_TYPES, Scan, picture_folders
from fedmosaic.data.reading.values import absent
from fedmosaic.data.records import Record, RecordLocation
from fedmosaic.data.splits import TaskFiles, files_of_folder, files_of_path
from fedmosaic.errors import DataError, nearest

FILE_COLUMN = "file"
"""Stands for the name of an item's file, where no item has a field of that name."""


@dataclass(frozen=True)
class Item:
    """Hold an item of a file.

    Attributes:
        location: where it is.
        record: the item as it stands in the file.
        example: its example.
        folders: folders that its image paths may start from.
    """

    location: RecordLocation
    record: Record
    example: Example
    folders: Sequence[Path]


@dataclass
class ItemPool:
    """Hold the items of a source.

    Attributes:
        source: the file or folder.
        train: items of the files for training.
        test: items of the files for testing; empty where there is no such file.
        test_names: names of the files for testing.
        notes: what the reader has to say, a sentence each.
    """

    source: Path
    train: list[Item] = field(default_factory=list)
    test: list[Item] = field(default_factory=list)
    test_names: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        """Return all items."""
        return [*self.train, *self.test]


def read_pool(source: Path, root: Path | None = None) -> ItemPool:
    """Return the items of a file with its test file, or of a folder.

    Args:
        source: a data file, or a folder of one's own, of ``datasets`` or of a dataset of DRAKE.
        root: folder that image paths may start from, before the source's own; None: the working
            folder.

    Raises:
        DataError: there is no such source, or items cannot be read: how many, and the first.
    """
    files = _files(source)
    roots = [root or Path(), *([source, source.parent] if source.is_dir() else [])]
    pool = ItemPool(source, test_names=", ".join(path.name for path in files.test))
    faults: list[str] = []
    for paths, items in ((files.train, pool.train), (files.test, pool.test)):
        scan = Scan(paths, roots=roots)
        for found in scan:
            folders = picture_folders(found.location.path, roots)
            fault = str(found.error or "")
            if found.example is not None:
                fault = _missing_picture(found.location, found.example)
                items.append(Item(found.location, found.record, found.example, folders))
            if fault:
                faults.append(fault)
        pool.notes += scan.notes
    if faults:
        check = f"`fedmosaic data check {source}` lists all"
        more = f" ({len(faults) - 1} more items have faults; {check})" if len(faults) > 1 else ""
        raise DataError(faults[0] + more)
    pool.notes = [*files.notes, *dict.fromkeys(pool.notes)]
    return pool


def _files(source: Path) -> TaskFiles:
    if source.is_dir():
        return files_of_folder(source)
    if not source.is_file():
        folder = source.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        raise DataError(f"data {source} does not exist.{nearest(source.name, names)}")
    if source.suffix.lower() not in FILE_TYPES:
        raise DataError(
            f"{source}: unknown kind of data file; its name must end in {', '.join(FILE_TYPES)}"
        )
    return files_of_path(source)


def _missing_picture(location: RecordLocation, example: Example) -> str:
    for image in example.images:
        if isinstance(image.source, Path) and not image.source.is_file():
            return f"{location.field(location.images)}: {image.name} does not exist"
    return ""


def column_values(pool: ItemPool, items: Sequence[Item], column: str) -> list[str]:
    """Return the value of a column for each item, as text.

    ``file`` is the name of an item's file, where no item has a field of that name.

    Raises:
        DataError: no item has the column, or an item has no value in it, or no single one.
    """
    names = {name for item in pool.items for name in item.record}
    if column == FILE_COLUMN and column not in names:
        return [item.location.path.stem for item in items]
    if column not in names:
        raise DataError(f"{pool.source}: no item has a field {column!r}.{nearest(column, names)}")
    lacking = [item for item in items if absent(item.record.get(column))]
    if lacking:
        raise DataError(
            f"{lacking[0].location}: has no value in the field {column!r}, and so do"
            f" {len(lacking)} of {len(items)} items; give each of them one"
        )
    return [_single(item, column) for item in items]


def _single(item: Item, column: str) -> str:
    value: Any = item.record[column]
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise item.location.error(
            column, f"is {type(value).__name__}, not a text or a number to divide items by"
        )
    return str(value).strip()
