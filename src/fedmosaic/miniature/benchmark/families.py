"""Define the dataset families of the benchmark, and draw the examples of their tasks.

A *family* is a visual style and a piece of knowledge that no pretrained model has: a code, an order
or a convention. Its *tasks* ask about that knowledge in different ways, with different numbers of
images, or about part of it only. A task is a function from a :class:`Draw` to a :class:`TaskItem`.
The families themselves are in ``families_relation``, ``families_reasoning``, ``families_qa`` and
``families_unseen``.

Three rules make sure that a task measures what it should; the tests check them:

* *Balance*: the answer, or what decides it, comes from :meth:`Draw.balanced`, so all are equally
  frequent.
* *No shortcut*: options come from :meth:`Draw.options`, so the text alone does not tell which one
  is right.
* *Disjoint splits*: pictures come from :meth:`Draw.scene`, and the content of a picture decides
  which split it may appear in (:func:`split_of`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeVar

from fedmosaic.miniature.world.scene import SHAPES, Scene, Thing
from fedmosaic.miniature.world.styles import COLORS, RenderStyle, get_style
from fedmosaic.miniature.world.words import CODE_WORDS
from fedmosaic.seeding import rng

FEW, SOME, MANY = 25, 60, 100
"""Numbers of training examples of easy, ordinary and hard tasks.

They are chosen so that local training neither fails nor solves a task.
"""

MIDDLE = 4
"""The cell in the middle of a picture, for things that are to be compared."""

Shift = tuple[int, int]
"""Pixels to the right and down."""

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Split = Literal["train", "test", "public"]
SPLITS: tuple[Split, ...] = ("train", "test", "public")

HUES: tuple[str, ...] = tuple(color for color in COLORS if color not in ("gray", "brown"))
"""The eight colours that are easy to tell apart in every style."""


@dataclass(frozen=True)
class TaskItem:
    """Hold one question before it is rendered.

    Attributes:
        question: the text, without image marks and options.
        scenes: the pictures, in order.
        answer: one of ``options``, unless there are none.
        options: the answers to choose from; empty for an open question.
    """

    question: str
    scenes: tuple[Scene, ...]
    answer: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskRecipe:
    """Describe how one task is made.

    Attributes:
        name: ``FAMILY-SUBSET``, e.g. ``"icon-0"``.
        group: ``"relation"``, ``"reasoning"``, ``"qa"`` or ``"unseen"``.
        style: style of its pictures; the tasks of a family share it.
        make: draws one example.
        kind: ``"open"`` tasks have no options and are scored by word F1; default ``"choice"``.
        train: default number of training examples; default 60.
    """

    name: str
    group: str
    style: RenderStyle
    make: Callable[[Draw], TaskItem]
    kind: Literal["choice", "open"] = "choice"
    train: int = SOME

    @property
    def family(self) -> str:
        """Return the name without the subset number."""
        return self.name.rsplit("-", 1)[0]


class Draw:
    """Draw the random parts of one example; each example has a generator of its own.

    Args:
        task: name of the task.
        split: the split that the example belongs to.
        seed: seed of the task's examples.
        index: number of the example in its split, from 0.
    """

    def __init__(self, task: str, split: Split, seed: int, index: int) -> None:
        self.task, self.split, self.seed, self.index = task, split, seed, index
        self._rng = rng("miniature", task, split, seed, index)

    def pick(self, values: Sequence[T]) -> T:
        """Return one of ``values``, all equally likely."""
        return values[int(self._rng.integers(len(values)))]

    def sample(self, values: Sequence[T], count: int) -> list[T]:
        """Return ``count`` different ones of ``values`` in random order."""
        return [values[k] for k in self._rng.permutation(len(values)).tolist()[:count]]

    def other(self, values: Sequence[T], *excluded: T) -> T:
        """Return one of ``values`` that is none of ``excluded``."""
        return self.pick([value for value in values if value not in excluded])

    def balanced(self, values: Sequence[T], key: str = "") -> T:
        """Return one of ``values`` so that over the examples each occurs equally often.

        The examples of a split go through ``values`` again and again, each time in a new random
        order.

        Args:
            values: what to choose from.
            key: names the series. Two calls for one example are independent only if their keys
                differ.
        """
        passes, position = divmod(self.index, len(values))
        place = _pass_order(self.task, self.split, self.seed, key, passes, len(values))[position]
        return values[place]

    def options(self, answer: str, values: Sequence[str], count: int = 3) -> tuple[str, ...]:
        """Return ``answer`` and ``count - 1`` others of ``values``, in random order.

        The others are drawn evenly. If the answers are balanced, each option is therefore equally
        likely to be the answer, given the options alone.
        """
        others = self.sample([value for value in values if value != answer], count - 1)
        return tuple(self.sample([answer, *others], count))

    def scene(self, make: Callable[[], Sequence[Thing]]) -> Scene:
        """Return a scene of the things that ``make`` draws, each shifted a little in its cell.

        ``make`` is called until the content belongs to this draw's split.
        """
        # Most drawn pictures belong to other splits, so only those that are used are built.
        for _ in range(500):
            things = make()
            shifts = [None if stays(thing) else self._shift() for thing in things]
            if split_of(things, shifts) == self.split:
                return Scene(shifted(things, shifts), seed=int(self._rng.integers(2**31)))
        raise AssertionError(f"{self.task}: too few different pictures to keep the splits apart")

    def _shift(self) -> Shift:
        return int(self._rng.integers(-2, 3)), int(self._rng.integers(-2, 3))

    def one_shape(
        self, shape: str | None = None, color: str | None = None, cell: int | None = None
    ) -> Scene:
        """Return a scene of one large or medium shape; an argument that is None is drawn."""
        return self.scene(
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

    def equal_shapes(
        self, count: int, shape: str | None = None, color: str | None = None, fill: str = "solid"
    ) -> Scene:
        """Return a scene of ``count`` equal shapes in different cells.

        An argument that is None is drawn once, for all of them.
        """

        def make() -> list[Thing]:
            name, hue = shape or self.pick(SHAPES), color or self.pick(HUES)
            return [
                Thing("shape", name, hue, "large", cell, fill)
                for cell in self.sample(range(9), count)
            ]

        return self.scene(make)


@lru_cache(maxsize=256)
def _pass_order(
    task: str, split: Split, seed: int, key: str, number: int, count: int
) -> tuple[int, ...]:
    """Return the order of ``count`` values in one pass of :meth:`Draw.balanced`."""
    drawn = rng("miniature-order", task, split, seed, key, number).permutation(count)
    return tuple(drawn.tolist())


def stays(thing: Thing) -> bool:
    """Return whether a thing is never shifted: a texture, or one that covers the picture."""
    return thing.cell is None or thing.kind == "texture"


def shifted(things: Sequence[Thing], shifts: Sequence[Shift | None]) -> tuple[Thing, ...]:
    """Return the things, each with its shift; None leaves it as it is."""
    return tuple(
        thing if shift is None else replace(thing, shift=shift)
        for thing, shift in zip(things, shifts, strict=True)
    )


def split_of(things: Sequence[Thing], shifts: Sequence[Shift | None] = ()) -> Split:
    """Return the only split in which a picture of exactly these things may appear.

    The cells and shifts of the things count, too.

    Args:
        things: the things.
        shifts: the shift of each; None: that of the thing. Default: those of the things.
    """
    # These are the words of a tuple of things, as Python writes it. The names of the class and its
    # fields count: other words move pictures between splits, and published runs depend on where
    # they are.
    texts = [
        f"Thing(kind={t.kind!r}, value={t.value!r}, color={t.color!r}, size={t.size!r}, "
        f"cell={t.cell!r}, fill={t.fill!r}, shift={t.shift if shift is None else shift!r})"
        for t, shift in zip(things, shifts or [None] * len(things), strict=True)
    ]
    words = f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"
    return SPLITS[zlib.crc32(words.encode()) % len(SPLITS)]


def style_on(base: str, background: tuple[int, int, int]) -> RenderStyle:
    """Return a style of the renderer with another background.

    Pretraining uses the renderer's styles unchanged, so none of its pictures has such a background.
    """
    style = get_style(base)
    return replace(style, name=f"{base}-{'-'.join(map(str, background))}", background=background)


def family_order(family: str, values: Sequence[T]) -> tuple[T, ...]:
    """Return ``values`` in the order that belongs to a family, the same in every run."""
    return tuple(values[int(k)] for k in rng("miniature-family", family).permutation(len(values)))


def assign_words(
    family: str, values: Sequence[K], start: int, different_from: Mapping[K, str] | None = None
) -> dict[K, str]:
    """Return a family's code, value -> code word, the same in every run.

    Args:
        family: names the random order of the words.
        values: what the words stand for.
        start: position of this family's first word in the list of code words.
        different_from: a code of the same values and words; the new one assigns another word to
            every value. Default None, no condition.
    """
    words = CODE_WORDS[start : start + len(values)]
    for attempt in range(1000):
        table = dict(zip(values, family_order(f"{family}/{attempt}", words), strict=True))
        if different_from is None or all(table[value] != different_from[value] for value in values):
            return table
    raise AssertionError(f"no code of {family} differs from the other one for every value")
