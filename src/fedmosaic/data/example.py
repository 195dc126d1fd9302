"""Define the one form that all data takes in the library: images, turns, examples and tasks.

A task built by hand::

    from pathlib import Path

    from fedmosaic.data import Example, Image, Task, Turn

    example = Example(
        id="17",
        turns=(
            Turn("user", "<image> How many cats are there? Options: one, two"),
            Turn("assistant", "two"),
        ),
        images=(Image(Path("cats.jpg")),),
        options=("one", "two"),
    )
    task = Task("cats", train=[example, ...], test=[...])
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from fedmosaic.data.image import Image
from fedmosaic.errors import DataError

IMAGE_MARK = "<image>"
"""Stands in a user's text where an image belongs."""


@dataclass(frozen=True)
class Turn:
    """Hold one turn of a conversation.

    Attributes:
        role: who speaks: ``"user"``, ``"assistant"``, or ``"system"`` for what the model is told
            before the first question.
        text: the words; a user's text has one ``<image>`` mark for each of its images, in order.
        learned: train the model to write this turn. It counts for the assistant's turns only.
    """

    role: Literal["user", "assistant", "system"]
    text: str
    learned: bool = True


@dataclass(frozen=True, eq=False)
class Example:
    """Hold one conversation, whose last turn is the answer to be learned or predicted.

    Attributes:
        id: name of the example, for messages and reports.
        turns: the conversation; the last turn is the assistant's answer. An example of plain text
            has that turn only.
        images: images in the order of their ``<image>`` marks; empty for text alone.
        options: answers to choose from, in the order of the question; empty for an open question.
        choice: place of the right option among ``options``. Default None: the option that equals
            the last turn.
        spellings: for each option the last turn as it would be written if that option were right
            (``"The answer is B."``). Default: the options themselves.

    Raises:
        DataError: the last turn is not the assistant's or is not learned, or there are not as many
            ``<image>`` marks as images.
    """

    id: str
    turns: tuple[Turn, ...]
    images: tuple[Image, ...] = ()
    options: tuple[str, ...] = ()
    choice: int | None = None
    spellings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.options:
            object.__setattr__(self, "choice", None)
        elif self.choice is None and self.turns[-1:] and self.turns[-1].text in self.options:
            object.__setattr__(self, "choice", self.options.index(self.turns[-1].text))
        if len(self.spellings) != len(self.options):
            object.__setattr__(self, "spellings", self.options)
        if not self.turns or self.turns[-1].role != "assistant":
            raise DataError(f"example {self.id!r}: the last turn must be the assistant's answer")
        marks = sum(turn.text.count(IMAGE_MARK) for turn in self.turns)
        if not self.turns[-1].learned:
            raise DataError(f"example {self.id!r}: the last turn must be learned")
        if marks != len(self.images):
            raise DataError(
                f"example {self.id!r}: {marks} {IMAGE_MARK} marks for {len(self.images)} images;"
                " write one mark in the user's text for each image"
            )

    @property
    def question(self) -> str:
        """Return the text of the last user turn, empty if there is none."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def answer(self) -> str:
        """Return the right option; of an open question the text of the last turn."""
        return self.turns[-1].text if self.choice is None else self.options[self.choice]


class LazyExamples(Sequence[Example]):
    """Make examples on first access and cache them.

    Args:
        count: number of examples.
        make: returns the example of an index. It may depend on nothing but the index and what
            ``make`` holds, so that a longer set begins with the shorter one.
    """

    def __init__(self, count: int, make: Callable[[int], Example]) -> None:
        self._make = make
        self._made: list[Example | None] = [None] * count

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        example = self._made[index]
        if example is None:
            example = self._made[index] = self._make(range(len(self))[index])
        return example


def fingerprint(examples: Iterable[Example]) -> str:
    """Return a hash of the examples' turns, options and images in their order, 32 hex digits.

    The ids are left out, so that copies of one set under other ids agree.
    """
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        turns = [
            (turn.role, turn.text) if turn.learned else (turn.role, turn.text, "not learned")
            for turn in example.turns
        ]
        digest.update(
            repr((turns, example.options, [image.key for image in example.images])).encode()
        )
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Task:
    """Hold one dataset of one client, with the examples to train on and to be tested on.

    Attributes:
        name: e.g. ``"VSR-1"`` or ``"miniature/icon-0"``.
        train: training examples; a list, a tuple, or a sequence that makes them on access.
        test: test examples.
        kind: ``"choice"`` if every test question has options, ``"open"`` otherwise.
        metric: the score of an answer.
        family: tasks of one family teach related knowledge. Reports and the control algorithms
            that are declared as oracles use it; no other training does.
        group: kind of the task, e.g. ``"qa"``; for information. Reports go by the groups of the
            clients.
    """

    name: str
    train: Sequence[Example]
    test: Sequence[Example]
    kind: Literal["choice", "open"] = "choice"
    metric: Literal["accuracy", "f1", "rouge_l"] = "accuracy"
    family: str = ""
    group: str = ""
