"""Locate items in their files, and hold the examples that were made from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.seeding import rng

Record = dict[str, Any]
"""One item of a file: field name -> value."""

NOT_USED = ": not used: "
"""Stands in a note between a file and its fields that are not used."""

_COUNTED_FIELD = re.compile(r"('.*?') of \d+ items?(?:, |$)")


@dataclass(frozen=True, slots=True)
class RecordLocation:
    """Locate an item in its file, for error messages.

    Attributes:
        path: the file.
        index: position of the item in the file, from 0.
        id: the item's id; its position if it has none.
        images: name of the field with its images.
    """

    path: Path
    index: int
    id: str
    images: str = "image"

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
    """Hold examples together with the items they came from, for later messages.

    Attributes:
        locations: for each example where its item is.
        notes: what the reader has to say about the items, a sentence each.
    """

    locations: tuple[RecordLocation, ...]
    notes: tuple[str, ...]

    @classmethod
    def build(
        cls,
        locations: Iterable[RecordLocation],
        examples: Iterable[Example],
        notes: Iterable[str] = (),
    ) -> FileExamples:
        """Return the examples that were made from the items at these locations."""
        built = cls(examples)
        built.locations = tuple(locations)
        built.notes = tuple(notes)
        return built

    def select(self, indices: Iterable[int]) -> FileExamples:
        """Return the examples at these indices, in this sequence."""
        chosen = list(indices)
        return self.build(
            (self.locations[i] for i in chosen), (self[i] for i in chosen), self.notes
        )

    @property
    def positions(self) -> tuple[int, ...]:
        """Return for each example the index of its item in its file, from 0."""
        return tuple(location.index for location in self.locations)


def single_notes(*sets: Sequence[Example]) -> list[str]:
    """Return what the reader has to say about sets of examples, file by file."""
    return [note for examples in sets for note in getattr(examples, "notes", ())]


def notes_of(*sets: Sequence[Example]) -> tuple[str, ...]:
    """Return what the reader has to say about sets of examples, as :func:`merged` has it."""
    return merged(single_notes(*sets))


def merged(notes: Iterable[str]) -> tuple[str, ...]:
    """Return each note of readers only one time.

    Files of which the same fields are not used share a sentence, which names the first of them.

    Args:
        notes: of :func:`single_notes`; what was merged before cannot be merged with more.
    """
    found = dict.fromkeys(notes)
    alike: dict[tuple[str, ...], list[str]] = {}
    for note in found:
        path, infix, fields = note.partition(NOT_USED)
        if infix:
            alike.setdefault(tuple(_COUNTED_FIELD.findall(fields)), []).append(path)
    shared = {
        f"{paths[0]}{NOT_USED}": f"{paths[0]} and {len(paths) - 1} more file"
        f"{'s' * (len(paths) > 2)}{NOT_USED}{', '.join(names)}"
        for names, paths in alike.items()
        if len(paths) > 1
    }
    sharing = {path for paths in alike.values() if len(paths) > 1 for path in paths}
    return tuple(
        shared.get(path + infix, note)
        for note in found
        for path, infix, _ in [note.partition(NOT_USED)]
        if not infix or path not in sharing or path + infix in shared
    )


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
