"""A validation split for choosing settings: part of the training examples stands in for the test examples.

It works on any task, whatever its source, and needs nothing but its training examples:

- the miniature benchmark: whose test pictures occur among no training pictures;
- files with a test file beside them (DRAKE, HFLB) and easy-VQA: whose test items are never looked at;
- files without one: a seeded part is theirs for testing. ``data.seed`` draws it, so a validation run must keep the ``data.seed`` of
  the comparison it serves (another one would call its test items training items), and has a seed of its own for what it holds out.

Several questions about one picture may fall on both sides of the split, as they may in a training set; never on the test side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

from fedmosaic.data.example import Example, Task
from fedmosaic.data.records import FileExamples
from fedmosaic.errors import DataError
from fedmosaic.seeding import rng

SHARE = 0.2


def hold_out(task: Task, seed: int) -> Task:
    """The task with a fifth of its training examples, drawn by ``seed``, in the place of its test examples.

    Raises:
        DataError: fewer than two training examples.
    """
    count = len(task.train)
    if count < 2:
        raise DataError(
            f"task {task.name!r} has {count} training example; a validation split takes 2 or more"
        )
    shuffled = rng(seed, "validation", task.name).permutation(count).tolist()
    held = max(1, round(SHARE * count))
    return replace(
        task, train=part(task.train, shuffled[held:]), test=part(task.train, shuffled[:held])
    )


def part(examples: Sequence[Example], indices: Sequence[int]) -> Sequence[Example]:
    """The examples at ``indices``, in their own order; those of a file still know where they stand in it."""
    kept = sorted(indices)
    if isinstance(examples, FileExamples):
        return FileExamples.build(
            examples.path, (examples.positions[i] for i in kept), (examples[i] for i in kept)
        )
    return (
        Part(examples, kept)
        if not isinstance(examples, tuple | list)
        else tuple(examples[i] for i in kept)
    )


class Part(Sequence[Example]):
    """Some of the examples of a set that makes them when they are asked for."""

    def __init__(self, whole: Sequence[Example], indices: Sequence[int]) -> None:
        self.whole = whole
        self.indices = list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self.whole[k] for k in self.indices[index]]
        return self.whole[self.indices[index]]
