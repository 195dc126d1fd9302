"""Read files of items, JSON or JSON Lines; errors name the file, the item and the field."""

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
"""One item of a file: field name -> value."""


@dataclass(frozen=True)
class RecordLocation:
    """Locate an item in its file, for error messages.

    Attributes:
        path: the file.
        index: position of the item in the file, from 0.
        id: the item's id, see :func:`item_id`.
    """

    path: Path
    index: int
    id: str

    def __str__(self) -> str:
        """Describe where the item is: ``file: item 12 (id 'abc')``."""
        return f"{self.path}: item {self.index} (id {self.id!r})"

    def field(self, name: str) -> str:
        """Describe where a field is: ``file: item 12 (id 'abc'), field 'image'``."""
        return f"{self}, field {name!r}"

    def error(self, field: str, message: str) -> DataError:
        """Return the error to raise about a field of this item."""
        return DataError(f"{self.field(field)}: {message}")


class FileExamples(tuple[Example, ...]):
    """Hold examples together with the file and the items they came from, for later errors.

    Attributes:
        path: the file.
        positions: for each example the index of its item in the file, from 0.
    """

    path: Path
    positions: tuple[int, ...]

    @classmethod
    def build(
        cls, path: Path, positions: Iterable[int], examples: Iterable[Example]
    ) -> FileExamples:
        """Return the examples that were made from the items at these positions of the file."""
        built = cls(examples)
        built.path = path
        built.positions = tuple(positions)
        return built

    @classmethod
    def read(
        cls,
        path: Path,
        records: Sequence[Record],
        make: Callable[[Record, RecordLocation], Example],
        limit: int | None,
        seed: int | None,
    ) -> FileExamples:
        """Make the examples of a file's items.

        Args:
            path: the file.
            records: its items.
            make: makes the example of an item.
            limit: the most examples, see :func:`choose`.
            seed: seed of the sample, see :func:`choose`.
        """
        chosen = choose(len(records), limit, seed)
        locations = [
            RecordLocation(path, index, item_id(records[index], index)) for index in chosen
        ]
        return cls.build(
            path, chosen, (make(records[location.index], location) for location in locations)
        )


def read_text_file(path: Path) -> str:
    """Return a file's text, UTF-8 with or without a byte-order mark.

    Raises:
        DataError: the file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"data file {path} does not exist") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"data file {path} is not UTF-8 text: {error.reason} at byte {error.start};"
            " save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from error


def read_records(path: Path) -> list[Record]:
    """Return the items of a ``.json`` file (a list of objects) or ``.jsonl`` file (one a line).

    Raises:
        DataError: the file is missing, not JSON (with line and column), not a list of objects, or
            empty.
    """
    text = read_text_file(path)
    items: Any
    if path.suffix == ".jsonl":
        lines = enumerate(text.split("\n"), start=1)
        items = [_parse(path, line, number) for number, line in lines if line.strip()]
    else:
        items = _parse(path, text, 1)
    if not isinstance(items, list):
        raise DataError(
            f"{path}: expected a list of items, found {type(items).__name__};"
            " put the items in [ ], or one a line in a .jsonl file"
        )
    if not items:
        raise DataError(f"{path} holds no items; it must have at least one")
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
    """Choose which items to take, and return their indices in file order.

    Args:
        count: number of items there are.
        limit: the most to take; None takes all.
        seed: draws a random sample of ``limit`` items; None takes the first ones.

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
    """Return the item's ``id`` as text, or its index if it has none."""
    value = record.get("id")
    return str(index) if value is None else str(value)
