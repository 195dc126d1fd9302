"""What a dataset family of the benchmark is, and the means by which its tasks draw their examples.

A *family* is a visual style and a piece of knowledge that no base has (a code, an order, a convention). Its *tasks*
ask about that knowledge in different ways, with different numbers of images, or show only part of it. A task is a
function from a :class:`Draw` to an :class:`Item`; the families themselves are in ``families_relation``,
``families_reasoning``, ``families_qa`` and ``families_unseen``.

Three rules keep every task honest, and the tests check them:

* *balance*: the answer, or what decides it, comes from :meth:`Draw.balanced`, so that each is equally frequent;
* *no shortcut*: options come from :meth:`Draw.options`, where text alone says nothing about which of them is right;
* *disjointness*: pictures come from :meth:`Draw.image`, and a picture's content decides which split it may appear in
  (:func:`split_of`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from fedmosaic.miniature.world.render import COLORS, SHAPES, Scene, Thing
from fedmosaic.miniature.world.styles import Style, get_style
from fedmosaic.miniature.world.words import CODE_WORDS
from fedmosaic.seeding import rng

FEW, SOME, MANY = 25, 60, 100
"""Training examples of easy, ordinary and hard tasks: local training alone shall neither fail nor reach everything."""

MIDDLE = 4
"""The cell in the middle of a picture, where things that are to be compared are put."""

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Split = Literal["train", "test", "public"]
SPLITS: tuple[Split, ...] = ("train", "test", "public")

HUES: tuple[str, ...] = tuple(color for color in COLORS if color not in ("gray", "brown"))
"""The eight colours that stay apart in every style."""


@dataclass(frozen=True)
class Item:
    """One question before it is rendered; ``answer`` is one of ``options`` unless there are none."""

    question: str
    scenes: tuple[Scene, ...]
    answer: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskSpec:
    """How one task is made.

    Attributes:
        name: ``FAMILY-SUBSET``.
        group: ``"relation"``, ``"reasoning"``, ``"qa"`` or ``"unseen"``.
        style: How its pictures look; tasks of a family share it.
        make: Draws one example.
        kind: ``"open"`` tasks have no options and are scored by word F1.
        train: Number of training examples unless another one is asked for.
    """

    name: str
    group: str
    style: Style
    make: Callable[[Draw], Item]
    kind: Literal["choice", "open"] = "choice"
    train: int = SOME

    @property
    def family(self) -> str:
        """The name without the subset number."""
        return self.name.rsplit("-", 1)[0]


class Draw:
    """The random draws of the ``index``-th example of a task's split. Each example has a generator of its own."""

    def __init__(self, task: str, split: Split, seed: int, index: int) -> None:
        self.task, self.split, self.seed, self.index = task, split, seed, index
        self._rng = rng("miniature", task, split, seed, index)

    def pick(self, values: Sequence[T]) -> T:
        """One of ``values``, all equally likely."""
        return values[int(self._rng.integers(len(values)))]

    def sample(self, values: Sequence[T], count: int) -> list[T]:
        """``count`` different ones of ``values`` in random order."""
        return [values[int(k)] for k in self._rng.permutation(len(values))[:count]]

    def other(self, values: Sequence[T], *than: T) -> T:
        """One of ``values`` that is none of ``than``."""
        return self.pick([value for value in values if value not in than])

    def balanced(self, values: Sequence[T], key: str = "") -> T:
        """This example's turn in an endless series of shuffled passes over ``values``: each occurs equally often.

        Calls of one example that shall be independent of one another need different ``key``.
        """
        turn, place = divmod(self.index, len(values))
        order = rng("miniature-order", self.task, self.split, self.seed, key, turn).permutation(
            len(values)
        )
        return values[int(order[place])]

    def options(self, answer: str, values: Sequence[str], count: int = 3) -> tuple[str, ...]:
        """``answer`` and ``count - 1`` others of ``values``, in random order.

        The others are drawn evenly, so given the options alone each of them is equally likely to be the answer,
        provided the answers are balanced.
        """
        others = self.sample([value for value in values if value != answer], count - 1)
        return tuple(self.sample([answer, *others], count))

    def image(self, make: Callable[[], Sequence[Thing]]) -> Scene:
        """A picture of the things that ``make`` draws, each shifted a little inside its cell.

        ``make`` is called again until the content belongs to this draw's split.
        """
        for _ in range(500):
            things = tuple(
                thing
                if thing.cell is None or thing.kind == "texture"
                else replace(
                    thing, shift=(int(self._rng.integers(-2, 3)), int(self._rng.integers(-2, 3)))
                )
                for thing in make()
            )
            if split_of(things) == self.split:
                return Scene(things, seed=int(self._rng.integers(2**31)))
        raise AssertionError(f"{self.task}: too few different pictures to keep the splits apart")

    def one(
        self, shape: str | None = None, color: str | None = None, cell: int | None = None
    ) -> Scene:
        """A picture of one shape, large or medium; what is None is drawn at random."""
        return self.image(
            lambda: [
                Thing(
                    "shape",
                    shape or self.pick(SHAPES),
                    color or self.pick(HUES),
                    self.pick(("large", "medium")),
                    self.pick(range(9)) if cell is None else cell,
                ),
            ]
        )

    def several(
        self, count: int, shape: str | None = None, color: str | None = None, fill: str = "solid"
    ) -> Scene:
        """A picture of ``count`` equal shapes in different cells; what is None is drawn at random, once for all."""

        def make() -> list[Thing]:
            what, hue = shape or self.pick(SHAPES), color or self.pick(HUES)
            return [
                Thing("shape", what, hue, "large", cell, fill)
                for cell in self.sample(range(9), count)
            ]

        return self.image(make)


def split_of(things: tuple[Thing, ...]) -> Split:
    """The only split in which a picture of exactly these things (places and shifts included) may appear."""
    return SPLITS[zlib.crc32(repr(things).encode()) % len(SPLITS)]


def look(base: str, background: tuple[int, int, int]) -> Style:
    """A style of the renderer on a background of its own.

    Pretraining uses the renderer's styles as they are. A picture on another background is never one of its pictures.
    """
    style = get_style(base)
    return replace(style, name=f"{base}-{'-'.join(map(str, background))}", background=background)


def shuffled(family: str, values: Sequence[T]) -> tuple[T, ...]:
    """``values`` in the order that is a family's own, the same in every run."""
    return tuple(values[int(k)] for k in rng("miniature-family", family).permutation(len(values)))


def code(
    family: str, values: Sequence[K], start: int, against: Mapping[K, str] | None = None
) -> dict[K, str]:
    """A family's code, the same in every run: which word stands for which value.

    Args:
        family: Names the shuffle.
        values: What the words stand for.
        start: Where in the list of code words this family's words begin.
        against: A code of the same values and words to disagree with everywhere.
    """
    words = CODE_WORDS[start : start + len(values)]
    for attempt in range(1000):
        table = dict(zip(values, shuffled(f"{family}/{attempt}", words), strict=True))
        if against is None or all(table[value] != against[value] for value in values):
            return table
    raise AssertionError(f"no code of {family} disagrees with the other one everywhere")
