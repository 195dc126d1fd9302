"""Digest every item of a set of examples, and find what changed between two sets.

Each item has four digests of 8 bytes: of its question (all turns but the last), its answer, its
options and its pictures. Ids, file names and the layout of a file do not count, only content does.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmosaic.data.example import Example
from fedmosaic.data.records import FileExamples

PARTS = ("question", "answer", "options", "picture")
Integers = NDArray[np.int64]
_FILE = 1 << 32


@dataclass(frozen=True, eq=False)
class ItemDigests:
    """Hold the digests of a set of items, from one file or several.

    Attributes:
        files: the files in the order of the items, or names of what is no file.
        positions: for each item the number of its file times 2³², plus its index there, [n].
        parts: digests of question, answer, options and pictures, [n, 4].
        trained: number of items that are trained on; they are the first ones.
    """

    files: tuple[str, ...]
    positions: Integers
    parts: Integers
    trained: int

    @property
    def keys(self) -> list[bytes]:
        """Return the whole digest of each item."""
        return [row.tobytes() for row in self.parts]

    def place(self, position: int) -> tuple[str, int]:
        """Return file and index of an item."""
        return self.files[position // _FILE], position % _FILE


@dataclass(frozen=True)
class DataChange:
    """Describe how a set of items differs from what it was.

    Attributes:
        name: name of the set, e.g. ``task rivers.json``.
        file: the file with the first difference.
        what: the first difference in words.
        items: number of items that differ.
        leaked: items that are tested now and were trained on before.
    """

    name: str
    file: str
    what: str
    items: int
    leaked: int = 0


def digest_items(
    name: str, train: Sequence[Example], test: Sequence[Example] = ()
) -> ItemDigests | None:
    """Return the digests of training and test examples.

    Args:
        name: what examples are called that come from no file.
        train: examples that are trained on.
        test: examples that are tested, perhaps of the same file.

    Returns:
        the digests; None for examples that are made on access, whose content follows from seeds.
    """
    if not all(isinstance(examples, tuple | list) for examples in (train, test)):
        return None
    places = [*_places(train, f"{name}: train"), *_places(test, f"{name}: test")]
    files = {file: number for number, file in enumerate(dict.fromkeys(f for f, _ in places))}
    positions = [files[file] * _FILE + index for file, index in places]
    rows = [_digests(example) for examples in (train, test) for example in examples]
    parts = np.frombuffer(b"".join(rows), "<i8").reshape(-1, len(PARTS))
    return ItemDigests(tuple(files), np.array(positions, np.int64), parts, len(train))


def difference(name: str, before: ItemDigests, now: ItemDigests) -> DataChange | None:
    """Return how a set of that name changed; None if its content is the same."""
    if before.trained == now.trained and all(
        np.array_equal(getattr(before, name), getattr(now, name)) for name in ("positions", "parts")
    ):
        return None
    old, new = (dict(zip(x.positions.tolist(), x.keys, strict=True)) for x in (before, now))
    gone = Counter(old.values()) - Counter(new.values())
    come = Counter(new.values()) - Counter(old.values())
    differing = sorted(place for place in old.keys() & new.keys() if old[place] != new[place])
    apart = max(gone.total(), come.total())
    if old.keys() == new.keys() and apart and len(differing) <= apart:
        file, index = now.place(differing[0])
        what = f"item {index}: {_changed_parts(before, now, differing[0])} changed"
    elif apart:
        firsts = [
            (items.place(next(p for p in sorted(keys) if keys[p] in which)), word)
            for items, keys, which, word in (
                (before, old, gone, "is gone"),
                (now, new, come, "is new"),
            )
            if which
        ]
        file = firsts[0][0][0]
        what = " and ".join(f"item {index} {word}" for (_, index), word in firsts)
    else:
        first = differing[0] if differing else min(new.keys() - old.keys(), default=0)
        file, index = now.place(first)
        what, apart = f"item {index}: the items stand in another order", len(differing) or 1
    trained, tested = set(before.keys[: before.trained]), now.keys[now.trained :]
    still = set(before.keys[before.trained :])
    leaked = sum(key in trained and key not in still for key in tested)
    return DataChange(name, file, what, apart, leaked)


def moved(before: ItemDigests, now: ItemDigests) -> Integers:
    """Return for each former training item its index among today's, [before.trained].

    An item is found by its content, and otherwise by its position where the question is the same:
    its answer, options or picture were changed. −1: it is gone.
    """
    free: defaultdict[bytes, list[int]] = defaultdict(list)
    for index in range(now.trained - 1, -1, -1):
        free[now.parts[index].tobytes()].append(index)
    keys = before.keys[: before.trained]
    found = [free[key].pop() if free[key] else -1 for key in keys]
    taken = set(found)
    at = {place: k for k, place in enumerate(now.positions[: now.trained].tolist())}
    for index, place in enumerate(before.positions[: before.trained].tolist()):
        other = at.get(place)
        if found[index] >= 0 or other is None or other in taken:
            continue
        if before.parts[index, 0] == now.parts[other, 0]:
            found[index] = other
    return np.array(found, np.int64)


def _changed_parts(before: ItemDigests, now: ItemDigests, place: int) -> str:
    rows = [x.parts[int(np.flatnonzero(x.positions == place)[0])] for x in (before, now)]
    return " and ".join(
        part for part, same in zip(PARTS, rows[0] == rows[1], strict=True) if not same
    )


def _places(examples: Sequence[Example], name: str) -> Iterable[tuple[str, int]]:
    if isinstance(examples, FileExamples):
        return ((str(location.path), location.index) for location in examples.locations)
    return ((name, index) for index in range(len(examples)))


def _digests(example: Example) -> bytes:
    question = [(turn.role, turn.text) for turn in example.turns[:-1]]
    pictures = [image.key for image in example.images]
    parts: tuple[Any, ...] = (question, example.answer, example.options, pictures)
    return b"".join(
        hashlib.blake2b(repr(part).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for part in parts
    )
