"""Generate examples with drawn pictures of coloured shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fedmosaic.data.example import IMAGE_MARK, Example, LazyExamples, Turn
from fedmosaic.data.image import Image
from fedmosaic.data.synthetic.draws import pick, sample
from fedmosaic.errors import DataError
from fedmosaic.seeding import rng as named_rng

PICTURE_SIZE = 128
"""Pixels of a picture's sides."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40), "green": (46, 160, 67), "blue": (38, 84, 196), "yellow": (244, 208, 36),
    "orange": (240, 132, 30), "purple": (132, 60, 170), "pink": (246, 140, 180),
    "brown": (120, 76, 40), "black": (20, 20, 20), "white": (250, 250, 250),
}  # fmt: skip
PLACES = (
    "top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom",
    "bottom right",
)  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ORDINALS = ("first", "second")

Coordinates = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def synthetic_pictures(n: int, seed: int = 0, *, size: int = PICTURE_SIZE) -> LazyExamples:
    """Return ``n`` examples with pictures, made on access; a longer set begins with the shorter.

    Args:
        n: number of examples.
        seed: draws the examples.
        size: pixels of a picture's sides; default 128.

    Raises:
        DataError: ``n`` is less than 1.
    """
    if n < 1:
        raise DataError(f"synthetic data must have at least one example, not {n}")
    return LazyExamples(n, partial(_example, seed, size))


def _circle(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    return x**2 + y**2 < 1


SHAPES: dict[str, Callable[[Coordinates, Coordinates], NDArray[np.bool_]]] = {
    "circle": _circle,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.85,
    "triangle": lambda x, y: (y < 0.8) & (y > 2 * abs(x) - 1),
    "diamond": lambda x, y: abs(x) + abs(y) < 1,
    "ring": lambda x, y: _circle(x, y) & ~_circle(x / 0.55, y / 0.55),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 0.95),
    "bar": lambda x, y: (abs(x) < 0.95) & (abs(y) < 0.35),
}
"""Name of a shape -> which points it covers, in coordinates from -1 to 1 (y points down)."""


@dataclass(frozen=True)
class _ColouredShape:
    """Describe one shape in a picture.

    Attributes:
        shape: a name of :data:`SHAPES`.
        colour: a name of :data:`COLOURS`.
        cell: its cell of the 3 × 3 grid, 0 to 8, row by row.
    """

    shape: str
    colour: str
    cell: int

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def with_article(self) -> str:
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self}"


def _draw_shapes(rng: np.random.Generator, count: int) -> list[_ColouredShape]:
    """Draw ``count`` shapes that differ in look and cell."""
    looks = sample(rng, [(shape, colour) for shape in SHAPES for colour in COLOURS], count)
    return [
        _ColouredShape(*look, cell)
        for look, cell in zip(looks, sample(rng, range(9), count), strict=True)
    ]


def _paint(rng: np.random.Generator, shapes: Sequence[_ColouredShape], size: int) -> Pixels:
    """Paint shapes on a background that shades between two colours, with a little noise."""
    lightness = pick(rng, (60.0, 225.0))
    corners = lightness + rng.uniform(-30, 30, (2, 3))
    slope = rng.uniform(0, 1, 2)
    axis = np.linspace(0, 1, size)
    ramp = (slope[0] * axis[:, None] + slope[1] * axis[None, :]) / max(slope.sum(), 1e-9)
    image = corners[0] + ramp[..., None] * (corners[1] - corners[0])
    image += rng.uniform(0, 8) * rng.standard_normal((size, size, 1))
    for shape in shapes:
        radius = rng.uniform(0.09, 0.15)
        centre = (np.array(divmod(shape.cell, 3)) + 0.5) / 3 + rng.uniform(-0.015, 0.015, 2)
        y, x = (axis[:, None] - centre[0]) / radius, (axis[None, :] - centre[1]) / radius
        image[SHAPES[shape.shape](*np.broadcast_arrays(x, y))] = COLOURS[shape.colour]
    painted: Pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return painted


_Pictures = list[list[_ColouredShape]]
_QuestionAnswer = tuple[str, str, tuple[str, ...]]  # question, answer, words that may be options


def _colour(rng: np.random.Generator, pictures: _Pictures) -> _QuestionAnswer:
    shape = pictures[0][0]
    question = f"What colour is the {shape.shape} at the {PLACES[shape.cell]}?"
    return question, shape.colour, tuple(COLOURS)


def _shape(rng: np.random.Generator, pictures: _Pictures) -> _QuestionAnswer:
    shape = pictures[0][0]
    question = f"Which shape do you see at the {PLACES[shape.cell]} of the picture?"
    return question, shape.shape, tuple(SHAPES)


def _count(rng: np.random.Generator, pictures: _Pictures) -> _QuestionAnswer:
    return "How many things are there in the picture?", NUMBERS[len(pictures[0])], NUMBERS[1:6]


def _place(rng: np.random.Generator, pictures: _Pictures) -> _QuestionAnswer:
    shape = pictures[0][0]
    return f"Where in the picture is the {shape}?", PLACES[shape.cell], PLACES


def _caption(rng: np.random.Generator, pictures: _Pictures) -> _QuestionAnswer:
    listed = ", ".join(f"{shape.with_article} at the {PLACES[shape.cell]}" for shape in pictures[0])
    return "Describe the picture.", f"It shows {listed}.", ()


def _more(rng: np.random.Generator, pictures: _Pictures) -> _QuestionAnswer:
    counts = [len(shapes) for shapes in pictures]
    if counts[0] == counts[1]:
        return "Do both pictures show equally many things?", "yes", ("yes", "no")
    return "Which picture shows more things?", ORDINALS[counts[1] > counts[0]], ORDINALS


def _only_in_second(rng: np.random.Generator, pictures: _Pictures) -> _QuestionAnswer:
    shape = pictures[1][0]
    answer = "no" if any(str(shape) == str(other) for other in pictures[0]) else "yes"
    question = f"Is there {shape.with_article} in the second picture but none in the first?"
    return question, answer, ("yes", "no")


# Each kind of question, and the number of pictures that it is about.
_KINDS: tuple[tuple[Callable[[np.random.Generator, _Pictures], _QuestionAnswer], int], ...] = (
    (_colour, 1), (_shape, 1), (_count, 1), (_place, 1), (_caption, 1), (_more, 2),
    (_only_in_second, 2),
)  # fmt: skip


def _example(seed: int, size: int, index: int) -> Example:
    rng = named_rng("synthetic", "pictures", seed, index)
    make_question, count = _KINDS[index % len(_KINDS)]
    pictures = [_draw_shapes(rng, int(rng.integers(1, 6))) for _ in range(count)]
    question, answer, words = make_question(rng, pictures)
    options: tuple[str, ...] = ()
    if words and rng.random() < 0.5:
        others = sample(rng, [word for word in words if word != answer], 3)
        options = tuple(sample(rng, [answer, *others], len(others) + 1))
        question = f"{question} Options: {', '.join(options)}"
    images = tuple(Image(_paint(rng, shapes, size)) for shapes in pictures)
    turns = (Turn("user", f"{IMAGE_MARK * count} {question}"), Turn("assistant", answer))
    return Example(f"synthetic/{seed}/{index}", turns, images, options)
