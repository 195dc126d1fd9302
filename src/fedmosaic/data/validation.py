"""Hold out training examples as test examples, to choose settings without the test set.

The split needs nothing but a task's training examples, whatever their source:

- Miniature benchmark: its test images are never among the training images.
- Files with a test file (DRAKE, HFLB) and easy-VQA: their test items are not used at all.
- Files without a test file: ``data.seed`` draws the items that are tested. A validation run must
  use the same ``data.seed`` as the comparison it serves, otherwise test items of the comparison
  would become training items here. What is held out is drawn by a seed of its own.

Several questions about one image may fall on both sides of this split, as they may both be training
questions. None of them is ever a question of the test set.
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
"""Share of the training examples that is held out."""


def hold_out(task: Task, seed: int) -> Task:
    """Return the task with a fifth of its training examples in place of its test examples.

    Args:
        task: the task; its test examples are not used.
        seed: draws the examples that are held out.

    Raises:
        DataError: there are fewer than two training examples.
    """
    count = len(task.train)
    if count < 2:
        raise DataError(
            f"task {task.name!r} has {count} training example; a validation split takes 2 or more"
        )
    shuffled = rng(seed, "validation", task.name).permutation(count).tolist()
    held_out = max(1, round(SHARE * count))
    return replace(
        task,
        train=select(task.train, shuffled[held_out:]),
        test=select(task.train, shuffled[:held_out]),
    )


def select(examples: Sequence[Example], indices: Sequence[int]) -> Sequence[Example]:
    """Return the examples at ``indices``, in ascending order of index.

    Examples of a file keep their positions in it; examples made on access are not made here.
    """
    ordered = sorted(indices)
    if isinstance(examples, FileExamples):
        return examples.select(ordered)
    if isinstance(examples, tuple | list):
        return tuple(examples[i] for i in ordered)
    return SelectedExamples(examples, ordered)


class SelectedExamples(Sequence[Example]):
    """Show some examples of a sequence that makes them on access.

    Args:
        examples: the whole sequence.
        indices: the indices to show, in this order.
    """

    def __init__(self, examples: Sequence[Example], indices: Sequence[int]) -> None:
        self.examples = examples
        self.indices = list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self.examples[k] for k in self.indices[index]]
        return self.examples[self.indices[index]]
