"""Reading JSON, JSON Lines and their mistakes: every error names the file, the item and the field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.seeding import rng

Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where an item stands, for error messages: ``file: item 12 (id 'abc'), field 'image'``."""

    path: Path
    index: int
    id: str

    def field(self, name: str) -> str:
        """The place of one field of the item, in words."""
        return f"{self.path}: item {self.index} (id {self.id!r}), field {name!r}"

    def error(self, field: str, message: str) -> DataError:
        """The error to raise about ``field`` of this item."""
        return DataError(f"{self.field(field)}: {message}")


class FileExamples(tuple[Example, ...]):
    """Examples that know which items of which file they came from, so that later errors can say so.

    Attributes:
        path: the file.
        positions: for each example, its item's index in the file, from 0.
    """

    path: Path
    positions: tuple[int, ...]

    @classmethod
    def build(
        cls, path: Path, positions: Iterable[int], examples: Iterable[Example]
    ) -> FileExamples:
        """The examples that stand at these positions of the file."""
        built = cls(examples)
        built.path = path
        built.positions = tuple(positions)
        return built

    @classmethod
    def read(
        cls,
        path: Path,
        records: Sequence[Record],
        make: Callable[[Record, Place], Example],
        limit: int | None,
        seed: int | None,
    ) -> FileExamples:
        """The examples that ``make`` builds of a file's items; ``limit`` and ``seed`` as in :func:`choose`."""
        kept = choose(len(records), limit, seed)
        places = [Place(path, index, item_id(records[index], index)) for index in kept]
        return cls.build(path, kept, (make(records[place.index], place) for place in places))


def read_text_file(path: Path) -> str:
    """The file's text (UTF-8, with or without byte-order mark). Raises DataError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"data file {path} does not exist") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"data file {path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from error


def read_records(path: Path) -> list[Record]:
    """The items of a ``.json`` file (one list of objects) or of a ``.jsonl`` file (one object a line).

    Raises:
        DataError: the file is missing, not JSON (with line and column), not a list of objects, or empty.
    """
    text = read_text_file(path)
    items: Any
    if path.suffix == ".jsonl":
        lines = enumerate(text.split("\n"), start=1)
        items = [_parse(path, line, number) for number, line in lines if line.strip()]
    else:
        items = _parse(path, text, 1)
    if not isinstance(items, list):
        raise DataError(f"{path}: expected a list of items, found {type(items).__name__}")
    if not items:
        raise DataError(f"{path} holds no items")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise DataError(
                f"{path}: item {index}: expected an object with fields, found {type(item).__name__}"
            )
    return items


def _parse(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(
            f"{path} is not valid JSON: {error.msg} (line {line}, column {error.colno})"
        ) from error


def choose(count: int, limit: int | None, seed: int | None) -> list[int]:
    """Which of ``count`` items to keep, in file order: all, the first ``limit``, or a seeded sample of ``limit``.

    Raises:
        DataError: ``limit`` is less than 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} examples leaves nothing; it must be 1 or more")
    if limit is None or limit >= count:
        return list(range(count))
    if seed is None:
        return list(range(limit))
    return sorted(
        int(index) for index in rng(seed, "sample").choice(count, size=limit, replace=False)
    )


def item_id(record: Record, index: int) -> str:
    """The item's ``id`` as text, or its index where it has none."""
    value = record.get("id")
    return str(index) if value is None else str(value)
