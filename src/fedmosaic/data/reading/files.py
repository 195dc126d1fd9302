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
from fedmosaic.data.reading.remembered import recall, remember
from fedmosaic.data.reading.tables import dataset_records, parquet_records
from fedmosaic.data.reading.text_files import json_records, paragraphs
from fedmosaic.data.reading.values import kind_of
from fedmosaic.data.records import FileExamples, RecordLocation, choose
from fedmosaic.errors import DataError
from fedmosaic.memory import no_collection

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
            reader = ItemReader(path, picture_folders(path, self.roots))
            self._readers.append(reader)
            found: list[tuple[RecordLocation, Example]] = []
            records = read_records(path)
            for index, record in enumerate(records):
                location = _location(path, index, record)
                try:
                    example, place = _read(reader, record, location)
                    found.append((place, example))
                    yield ScannedItem(place, example, None, record)
                except DataError as error:
                    yield ScannedItem(location, None, error, record)
            if len(found) == len(records):
                _remember(path, reader, found)

    @property
    def notes(self) -> list[str]:
        """Return what there is to say about the items read so far."""
        return [line for reader in self._readers for line in reader.notes.lines()]


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
    known = [recall(path, picture_folders(path, roots)) for path in files]
    parts = [part or read_records(path) for path, part in zip(files, known, strict=True)]
    chosen = choose(sum(map(len, parts)), limit, seed)
    found: list[FileExamples] = []
    first = 0
    for path, part in zip(files, parts, strict=True):
        places = [number - first for number in chosen if first <= number < first + len(part)]
        first += len(part)
        if isinstance(part, FileExamples):
            found.append(part.select(places))
        else:
            found.append(_read_some(path, part, places, roots))
    return FileExamples.build(
        [location for part in found for location in part.locations],
        [example for part in found for example in part],
        [note for part in found for note in part.notes],
    )


def _read_some(
    path: Path, records: Sequence[Any], places: Sequence[int], roots: Sequence[Path]
) -> FileExamples:
    """Return the examples of some items of a file, and remember them if they are all."""
    reader = ItemReader(path, picture_folders(path, roots))
    found: list[tuple[RecordLocation, Example]] = []
    with no_collection():
        for index in places:
            location = _location(path, index, records[index])
            example, location = _read(reader, records[index], location)
            found.append((location, example))
    if len(found) == len(records):
        return _remember(path, reader, found)
    locations, examples = [place for place, _ in found], [example for _, example in found]
    return FileExamples.build(locations, examples, reader.notes.lines())


def _remember(
    path: Path, reader: ItemReader, found: Sequence[tuple[RecordLocation, Example]]
) -> FileExamples:
    """Return all examples of a file, after remembering them."""
    locations, examples = [place for place, _ in found], [example for _, example in found]
    whole = FileExamples.build(locations, examples, reader.notes.lines())
    remember(whole, path, reader.pictures)
    return whole


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
