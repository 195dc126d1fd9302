"""Read the items of data files, whatever their format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.data.example import Example
from fedmosaic.data.reading.class_folders import class_records, is_class_folder
from fedmosaic.data.reading.csv_files import csv_records
from fedmosaic.data.reading.items import ItemReader, item_id
from fedmosaic.data.reading.tables import dataset_records, parquet_records
from fedmosaic.data.reading.text_files import json_records, paragraphs
from fedmosaic.data.reading.values import kind_of
from fedmosaic.data.records import FileExamples, RecordLocation, choose
from fedmosaic.errors import DataError

_READERS: dict[str, Callable[[Path], Sequence[Any]]] = {
    ".json": json_records,
    ".jsonl": json_records,
    ".ndjson": json_records,
    ".csv": csv_records,
    ".tsv": csv_records,
    ".parquet": parquet_records,
    ".txt": paragraphs,
}
RECORD_TYPES = tuple(suffix for suffix in _READERS if suffix != ".txt")
"""Suffixes of files that hold items."""

FILE_TYPES = (*RECORD_TYPES, ".txt")
"""Suffixes of files that can be read."""

STATE = "state.json"
"""A file in every folder that ``datasets`` saves."""


@dataclass(frozen=True)
class ScannedItem:
    """Hold one item of a file, or what is wrong with it.

    Attributes:
        location: where the item is.
        example: its example; None where it cannot be read.
        error: why it cannot be read; None where it can.
        record: the item as it stands in the file.
    """

    location: RecordLocation
    example: Example | None
    error: DataError | None
    record: Any = None


class Scan:
    """Read the items of files one after the other, going on after an item that cannot be read.

    Args:
        paths: the files, see :func:`read_examples`.
        roots: folders that image paths may start from, before the file's own.
    """

    def __init__(self, paths: Path | Sequence[Path], roots: Sequence[Path] = ()) -> None:
        self.paths = [paths] if isinstance(paths, Path) else list(paths)
        self.roots = tuple(roots)
        self._readers: list[ItemReader] = []

    def __iter__(self) -> Iterator[ScannedItem]:
        """Yield the items in file order.

        Raises:
            DataError: a file itself cannot be read, or holds no items.
        """
        self._readers = []
        for path in self.paths:
            records = read_records(path)
            reader = ItemReader(path, picture_folders(path, self.roots))
            self._readers.append(reader)
            for index, record in enumerate(records):
                location = _location(path, index, record)
                try:
                    example, place = _read(reader, record, location)
                    yield ScannedItem(place, example, None, record)
                except DataError as error:
                    yield ScannedItem(location, None, error, record)

    @property
    def notes(self) -> list[str]:
        """Return what there is to say about the items read so far."""
        return [line for reader in self._readers for line in reader.notes.lines()]


def scan_examples(paths: Path | Sequence[Path], *, roots: Sequence[Path] = ()) -> Scan:
    """Return a scan of files, which yields each item's example or its error."""
    return Scan(paths, roots)


def read_examples(
    paths: Path | Sequence[Path],
    *,
    roots: Sequence[Path] = (),
    limit: int | None = None,
    seed: int | None = None,
) -> FileExamples:
    """Return the examples of a file, or of the files that one data set is divided into.

    Image files are located here and read later, when they are needed.

    Args:
        paths: JSON, JSON Lines, CSV, TSV, Parquet or text files, or folders of ``datasets``.
        roots: folders that image paths may start from, before the file's own.
        limit: the most items to take; default None, all.
        seed: draws a random sample of ``limit`` items; default None, the first ones.

    Raises:
        DataError: a file or an item is malformed; the message names file, item and field.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    entries = [(path, i, record) for path in files for i, record in enumerate(read_records(path))]
    readers = {path: ItemReader(path, picture_folders(path, roots)) for path in files}
    locations, examples = [], []
    for number in choose(len(entries), limit, seed):
        path, index, record = entries[number]
        example, location = _read(readers[path], record, _location(path, index, record))
        locations.append(location)
        examples.append(example)
    notes = [line for reader in readers.values() for line in reader.notes.lines()]
    return FileExamples.build(locations, examples, notes)


def read_records(path: Path) -> Sequence[Any]:
    """Return the items of a file as they stand in it.

    Raises:
        DataError: the file is missing or malformed, has an unknown suffix, or holds no items.
    """
    if path.is_dir() and (path / STATE).is_file():
        records: Sequence[Any] = dataset_records(path)
    elif path.is_dir() and is_class_folder(path):
        records = class_records(path)
    else:
        read = _READERS.get(path.suffix.lower())
        if read is None:
            known = ", ".join(FILE_TYPES)
            raise DataError(f"{path}: unknown kind of data file; its name must end in {known}")
        records = read(path)
    if not records:
        raise DataError(f"{path} holds no items; it must have at least one")
    return records


def picture_folders(path: Path, roots: Sequence[Path]) -> list[Path]:
    """Return the folders that image paths of a file may start from: the roots, then its own."""
    return [*roots, path if path.is_dir() else path.parent]


def _location(path: Path, index: int, record: Any) -> RecordLocation:
    found = item_id(record, index) if isinstance(record, dict) else str(index)
    return RecordLocation(path, index, found)


def _read(
    reader: ItemReader, record: Any, location: RecordLocation
) -> tuple[Example, RecordLocation]:
    if not isinstance(record, dict):
        raise DataError(
            f"{location.path}: item {location.index}: expected an object with fields, found"
            f" {kind_of(record)}"
        )
    return reader.read(record, location)
