"""Public data for those who have none: drawn pictures with questions about them, and generated text; all from a seed.

``synthetic`` shows one or two pictures of coloured shapes on a shaded ground, as large as any vision tower wants (its processor
resizes them), and asks about colour, shape, number, place and likeness. ``synthetic/text`` needs no pictures: small stories with
questions, sums, lists and plain sentences. Neither knows anything of a task; they are there to move activations and gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmosaic.data.example import IMAGE_MARK, Example, Examples, Image, Turn
from fedmosaic.errors import DataError
from fedmosaic.seeding import rng

PICTURE_SIZE = 128

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40), "green": (46, 160, 67), "blue": (38, 84, 196), "yellow": (244, 208, 36),
    "orange": (240, 132, 30), "purple": (132, 60, 170), "pink": (246, 140, 180), "brown": (120, 76, 40),
    "black": (20, 20, 20), "white": (250, 250, 250),
}  # fmt: skip
PLACES = (
    "top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ORDINALS = ("first", "second")
PEOPLE = (
    "Anna",
    "Ben",
    "Chloe",
    "David",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Keiko",
    "Liam",
)
THINGS = (
    "apple", "basket", "bicycle", "book", "bottle", "camera", "candle", "chair", "clock", "coat", "cup", "drum",
    "flower", "guitar", "hammer", "key", "lamp", "letter", "map", "mirror", "piano", "ring", "shoe", "spoon",
)  # fmt: skip
ROOMS = (
    "kitchen",
    "garden",
    "office",
    "library",
    "garage",
    "station",
    "school",
    "market",
    "harbour",
    "museum",
)
MANNERS = (
    "quickly",
    "slowly",
    "carefully",
    "quietly",
    "early in the morning",
    "late at night",
    "before lunch",
)

T = TypeVar("T")
Pixels = NDArray[np.uint8]
Rng = np.random.Generator


def synthetic_examples(
    n: int, seed: int = 0, *, text: bool = False, size: int = PICTURE_SIZE
) -> Examples:
    """``n`` examples, made when first asked for; a longer set begins with the shorter one.

    Args:
        text: without pictures.
        size: pixels of a picture's sides.

    Raises:
        DataError: ``n`` is less than 1.
    """
    if n < 1:
        raise DataError(f"synthetic data must have at least one example, not {n}")
    return Examples(n, partial(_text_example if text else _picture_example, seed, size))


# --- pictures ---------------------------------------------------------------------------------------------------------
def _circle(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return x**2 + y**2 < 1


SHAPES: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]] = {
    "circle": _circle,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.85,
    "triangle": lambda x, y: (y < 0.8) & (y > 2 * abs(x) - 1),
    "diamond": lambda x, y: abs(x) + abs(y) < 1,
    "ring": lambda x, y: _circle(x, y) & ~_circle(x / 0.55, y / 0.55),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 0.95),
    "bar": lambda x, y: (abs(x) < 0.95) & (abs(y) < 0.35),
}
"""Where a shape is, on coordinates from -1 to 1 (y points down)."""


@dataclass(frozen=True)
class _Thing:
    shape: str
    colour: str
    cell: int

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def named(self) -> str:
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self}"


def _pick(draw: Rng, values: Sequence[T]) -> T:
    return values[int(draw.integers(len(values)))]


def _sample(draw: Rng, values: Sequence[T], count: int) -> list[T]:
    return [values[int(index)] for index in draw.permutation(len(values))[:count]]


def _things(draw: Rng, count: int) -> list[_Thing]:
    """So many different things in different places."""
    looks = _sample(draw, [(shape, colour) for shape in SHAPES for colour in COLOURS], count)
    return [
        _Thing(*look, cell)
        for look, cell in zip(looks, _sample(draw, range(9), count), strict=True)
    ]


def _paint(draw: Rng, things: Sequence[_Thing], size: int) -> Pixels:
    """The things on a ground that shades from one pale or dark colour to another, with a little noise."""
    lightness = _pick(draw, (60.0, 225.0))
    corners = lightness + draw.uniform(-30, 30, (2, 3))
    slope = draw.uniform(0, 1, 2)
    axis = np.linspace(0, 1, size)
    ramp = (slope[0] * axis[:, None] + slope[1] * axis[None, :]) / max(slope.sum(), 1e-9)
    image = corners[0] + ramp[..., None] * (corners[1] - corners[0])
    image += draw.uniform(0, 8) * draw.standard_normal((size, size, 1))
    for thing in things:
        radius = draw.uniform(0.09, 0.15)
        centre = (np.array(divmod(thing.cell, 3)) + 0.5) / 3 + draw.uniform(-0.015, 0.015, 2)
        y, x = (axis[:, None] - centre[0]) / radius, (axis[None, :] - centre[1]) / radius
        image[SHAPES[thing.shape](*np.broadcast_arrays(x, y))] = COLOURS[thing.colour]
    painted: Pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return painted


_Asked = tuple[str, str, tuple[str, ...]]  # question, answer, options


def _colour(draw: Rng, pictures: list[list[_Thing]]) -> _Asked:
    thing = pictures[0][0]
    return (
        f"What colour is the {thing.shape} at the {PLACES[thing.cell]}?",
        thing.colour,
        tuple(COLOURS),
    )


def _shape(draw: Rng, pictures: list[list[_Thing]]) -> _Asked:
    thing = pictures[0][0]
    return (
        f"Which shape do you see at the {PLACES[thing.cell]} of the picture?",
        thing.shape,
        tuple(SHAPES),
    )


def _count(draw: Rng, pictures: list[list[_Thing]]) -> _Asked:
    return "How many things are there in the picture?", NUMBERS[len(pictures[0])], NUMBERS[1:6]


def _place(draw: Rng, pictures: list[list[_Thing]]) -> _Asked:
    thing = pictures[0][0]
    return f"Where in the picture is the {thing}?", PLACES[thing.cell], PLACES


def _caption(draw: Rng, pictures: list[list[_Thing]]) -> _Asked:
    listed = ", ".join(f"{thing.named} at the {PLACES[thing.cell]}" for thing in pictures[0])
    return "Describe the picture.", f"It shows {listed}.", ()


def _more(draw: Rng, pictures: list[list[_Thing]]) -> _Asked:
    counts = [len(things) for things in pictures]
    if counts[0] == counts[1]:
        return "Do both pictures show equally many things?", "yes", ("yes", "no")
    return "Which picture shows more things?", ORDINALS[counts[1] > counts[0]], ORDINALS


def _either(draw: Rng, pictures: list[list[_Thing]]) -> _Asked:
    thing = pictures[1][0]
    answer = "no" if any(str(thing) == str(other) for other in pictures[0]) else "yes"
    return (
        f"Is there {thing.named} in the second picture but none in the first?",
        answer,
        ("yes", "no"),
    )


_QUESTIONS = (
    (_colour, 1),
    (_shape, 1),
    (_count, 1),
    (_place, 1),
    (_caption, 1),
    (_more, 2),
    (_either, 2),
)


def _picture_example(seed: int, size: int, index: int) -> Example:
    draw = rng("synthetic", "pictures", seed, index)
    ask, count = _QUESTIONS[index % len(_QUESTIONS)]
    pictures = [_things(draw, int(draw.integers(1, 6))) for _ in range(count)]
    question, answer, words = ask(draw, pictures)
    options: tuple[str, ...] = ()
    if words and draw.random() < 0.5:
        others = _sample(draw, [word for word in words if word != answer], 3)
        options = tuple(_sample(draw, [answer, *others], len(others) + 1))
        question = f"{question} Options: {', '.join(options)}"
    images = tuple(Image(_paint(draw, things, size)) for things in pictures)
    turns = (Turn("user", f"{IMAGE_MARK * count} {question}"), Turn("assistant", answer))
    return Example(f"synthetic/{seed}/{index}", turns, images, options)


# --- text -------------------------------------------------------------------------------------------------------------
def _story(draw: Rng) -> tuple[str, str]:
    people, things = _sample(draw, PEOPLE, 3), _sample(draw, THINGS, 3)
    rooms = [_pick(draw, ROOMS) for _ in people]
    lines = [
        f"{who} took the {what} to the {where} {_pick(draw, MANNERS)}."
        for who, what, where in zip(people, things, rooms, strict=True)
    ]
    told = int(draw.integers(3))
    asked: tuple[tuple[str, str], ...] = (
        (f"Where is the {things[told]} now?", f"The {things[told]} is in the {rooms[told]}."),
        (f"Who took the {things[told]}?", people[told]),
        (f"What did {people[told]} take along?", f"The {things[told]}."),
    )
    question, answer = _pick(draw, asked)
    return f"{' '.join(lines)}\n\n{question}", answer


def _sum(draw: Rng) -> tuple[str, str]:
    one, two = (int(number) for number in draw.integers(2, 60, 2))
    if draw.random() < 0.5:
        return f"What is {one} plus {two}?", f"{one + two}"
    one, two = max(one, two), min(one, two)
    return (
        f"{_pick(draw, PEOPLE)} had {one} coins and gave away {two}. How many are left?",
        f"{one - two} coins are left.",
    )


def _list(draw: Rng) -> tuple[str, str]:
    words = _sample(draw, THINGS, int(draw.integers(3, 7)))
    if draw.random() < 0.5:
        return f"Sort these words by the alphabet: {', '.join(words)}.", ", ".join(sorted(words))
    return f"Write this as a list:\n{'; '.join(words)}", "\n".join(f"- {word}" for word in words)


def _choice(draw: Rng) -> tuple[str, str]:
    words = [*_sample(draw, ROOMS, 3)]
    thing = _pick(draw, THINGS)
    words.insert(int(draw.integers(4)), thing)
    return f"Which of these is not a place: {', '.join(words)}?", thing


def _sentences(draw: Rng) -> tuple[str, str]:
    lines = [
        f"The {_pick(draw, tuple(COLOURS))} {_pick(draw, THINGS)} of {_pick(draw, PEOPLE)} stood in the {_pick(draw, ROOMS)}"
        f" and was {_pick(draw, ('sold', 'found', 'painted', 'repaired', 'forgotten'))} {_pick(draw, MANNERS)}."
        for _ in range(int(draw.integers(2, 5)))
    ]
    return "", " ".join(lines)


_TEXTS: tuple[Callable[[Rng], tuple[str, str]], ...] = (_story, _sum, _list, _choice, _sentences)


def _text_example(seed: int, size: int, index: int) -> Example:
    question, answer = _TEXTS[index % len(_TEXTS)](rng("synthetic", "text", seed, index))
    asked = (Turn("user", question),) if question else ()
    return Example(f"synthetic/text/{seed}/{index}", (*asked, Turn("assistant", answer)))
