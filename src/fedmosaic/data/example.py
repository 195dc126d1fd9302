"""The one form in which every dataset reaches the rest of the library: images, turns, options, tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, overload

import numpy as np
import PIL.Image

from fedmosaic.errors import DataError

IMAGE_MARK = "<image>"


@dataclass(frozen=True, eq=False)
class Image:
    """One image: a file that is read or a function that draws it when needed, or an array (uint8, [height, width, 3]).

    What is read or drawn is never kept. Who computes something of the pixels keeps that instead, by :attr:`key`: a long stream
    of pictures takes no more memory than a short one.
    """

    source: Path | np.ndarray | Callable[[], np.ndarray]

    @cached_property
    def key(self) -> str:
        """Names the image's content: the same picture has the same key wherever it is used."""
        if isinstance(self.source, Path):
            try:
                content = self.source.read_bytes()
            except OSError as error:
                raise DataError(
                    f"image file {self.source} cannot be read: {error.strerror}"
                ) from error
        else:
            pixels = self._pixels()
            content = pixels.tobytes() + str(pixels.shape).encode()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def load(self) -> PIL.Image.Image:
        """The picture in RGB. Raises DataError naming the file if it is missing or corrupt."""
        if not isinstance(self.source, Path):
            return PIL.Image.fromarray(self._pixels())
        try:
            with PIL.Image.open(self.source) as picture:
                return picture.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"image file {self.source} cannot be read: {error}") from error

    def _pixels(self) -> np.ndarray:
        assert not isinstance(self.source, Path)
        return self.source if isinstance(self.source, np.ndarray) else self.source()


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation; a user's text holds one ``<image>`` mark for each image, in order."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, eq=False)
class Example:
    """A conversation that ends with the assistant's answer; ``options`` lists the choices (empty = open-ended)."""

    id: str
    turns: tuple[Turn, ...]
    images: tuple[Image, ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.turns or self.turns[-1].role != "assistant":
            raise DataError(f"example {self.id!r}: the last turn must be the assistant's answer")
        marks = sum(turn.text.count(IMAGE_MARK) for turn in self.turns)
        if marks != len(self.images):
            raise DataError(
                f"example {self.id!r}: {marks} {IMAGE_MARK} marks for {len(self.images)} images"
            )

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def answer(self) -> str:
        """The text of the last turn."""
        return self.turns[-1].text


class Examples(Sequence[Example]):
    """Examples that are drawn and rendered when first asked for, then kept in memory.

    Example ``i`` must depend on nothing but ``i`` and what ``make`` holds: a longer set then begins with the shorter
    one.
    """

    def __init__(self, count: int, make: Callable[[int], Example]) -> None:
        self._make = make
        self._kept: list[Example | None] = [None] * count

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        kept = self._kept[index]
        if kept is None:
            kept = self._kept[index] = self._make(range(len(self))[index])
        return kept


def fingerprint(examples: Iterable[Example]) -> str:
    """32 hex digits over what the examples say and show, in their order; their ids do not count."""
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        turns = [(turn.role, turn.text) for turn in example.turns]
        digest.update(
            repr((turns, example.options, [image.key for image in example.images])).encode()
        )
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Task:
    """One dataset of one client: what it trains on and what it is tested on.

    Attributes:
        family: tasks of one family teach related knowledge (used by reports only, never by training).
        group: the kind of task (used to split Others into in-group and out-group).
    """

    name: str
    train: Sequence[Example]
    test: Sequence[Example]
    kind: Literal["choice", "open"] = "choice"
    metric: Literal["accuracy", "f1", "rouge_l"] = "accuracy"
    family: str = ""
    group: str = ""
