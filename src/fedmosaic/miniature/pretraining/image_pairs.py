"""Draw questions about two to four pictures, for pretraining.

They ask whether pictures are the same, which one fits, what comes next, and for the sum.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from fedmosaic.miniature.pretraining.questions import MiniatureQuestion, number_of
from fedmosaic.miniature.pretraining.scenes import ScenePicture
from fedmosaic.miniature.world.scene import SHAPES
from fedmosaic.miniature.world.styles import COLORS
from fedmosaic.miniature.world.words import NUMBERS, ORDINALS, YES_NO

_SAME = ("same", "different")

PicturesAndQuestions = tuple[tuple[int, ...], list[MiniatureQuestion]]
"""Indices of pictures in the pool, and questions about them."""


class PicturePool:
    """Index pictures by what they show, so that comparisons can be chosen by their answer.

    Args:
        pictures: the pictures of the pool.
    """

    def __init__(self, pictures: Sequence[ScenePicture]) -> None:
        self.pictures = list(pictures)
        self.by_kind: dict[str, list[int]] = {}
        self.singles: dict[tuple[str, str], list[int]] = {}
        self.numbers: dict[tuple[str, int], list[int]] = {}
        for index, picture in enumerate(self.pictures):
            self.by_kind.setdefault(picture.kind, []).append(index)
            if picture.kind == "single":
                thing = picture.things[0]
                for key in (("colour", str(thing.color)), ("shape", str(thing.value))):
                    self.singles.setdefault(key, []).append(index)
            if picture.kind in ("die", "dots", "clock", "group"):
                self.numbers.setdefault((picture.kind, number_of(picture)), []).append(index)

    def __getitem__(self, index: int) -> ScenePicture:
        return self.pictures[index]

    def single(self, rng: random.Random, attribute: str, value: str) -> int:
        """Return the index of a picture of one shape with this colour or shape."""
        return rng.choice(self.singles[attribute, value])

    def number(self, rng: random.Random, kind: str, value: int) -> int:
        """Return the index of a picture of ``kind`` that shows the number ``value``."""
        return rng.choice(self.numbers[kind, value])


def compare(rng: random.Random, pool: PicturePool, listed: float = 0.0) -> PicturesAndQuestions:
    """Draw two to four pictures and the questions to ask about them, in random order.

    Args:
        rng: source of every draw.
        pool: the pictures to choose from.
        listed: probability that the first request is to list what all pictures show; default 0.

    Returns:
        The indices of the pictures, and the questions.
    """
    makers = (
        _same,
        _same,
        _which,
        _which,
        _odd_one_out,
        _match,
        _number_order,
        _next_number,
        _next_attribute,
        _total,
    )
    images, questions = rng.choice(makers)(rng, pool)
    rng.shuffle(questions)
    if rng.random() < listed:
        questions.insert(0, _list(rng, pool, images))
    return images, questions


def _list(rng: random.Random, pool: PicturePool, images: Sequence[int]) -> MiniatureQuestion:
    """Ask for a list of all pictures: ``first red, second blue`` or ``blue second, red first``.

    The second form prepares for questions about which image has a property.
    """
    if all(pool[index].kind == "single" for index in images):
        name = rng.choice(("colour", "shape"))
        words = [_attribute(pool, index, name) for index in images]
    else:
        name = "number"
        words = [NUMBERS[number_of(pool[index])] for index in images]
    order = list(range(len(images)))
    if rng.random() < 0.5 or len(set(words)) < len(words):
        text = ", ".join(f"{ORDINALS[k]} {words[k]}" for k in order)
        return MiniatureQuestion("list", f"describe each {name}", text, ())
    rng.shuffle(order)
    return MiniatureQuestion(
        "list",
        f"which image is each {name}?",
        ", ".join(f"{words[k]} {ORDINALS[k]}" for k in order),
        (),
    )


def _values(attribute: str) -> tuple[str, ...]:
    return COLORS if attribute == "colour" else SHAPES


def _attribute(pool: PicturePool, index: int, attribute: str) -> str:
    thing = pool[index].things[0]
    return str(thing.color if attribute == "colour" else thing.value)


def _same(rng: random.Random, pool: PicturePool) -> PicturesAndQuestions:
    attribute = rng.choice(("colour", "shape"))
    first = rng.choice(pool.by_kind["single"])
    value = _attribute(pool, first, attribute)
    wanted = value if rng.random() < 0.5 else rng.choice(_values(attribute))
    second = pool.single(rng, attribute, wanted)
    questions = []
    for name in ("colour", "shape"):
        equal = _attribute(pool, first, name) == _attribute(pool, second, name)
        if rng.random() < 0.6:
            text = rng.choice((f"is it the same {name}?", f"do both have the same {name}?"))
            questions.append(MiniatureQuestion("same", text, "yes" if equal else "no", YES_NO))
        else:
            questions.append(
                MiniatureQuestion(
                    "same", f"is the {name} same or different?", _SAME[not equal], _SAME
                )
            )
    k = rng.randrange(2)
    questions.append(_of_image(rng, pool, (first, second), k))
    return (first, second), questions


def _of_image(
    rng: random.Random, pool: PicturePool, images: Sequence[int], k: int
) -> MiniatureQuestion:
    name = rng.choice(("colour", "shape"))
    answer = _attribute(pool, images[k], name)
    return MiniatureQuestion(
        "of-image", f"what {name} is the {ORDINALS[k]} image?", answer, _values(name)
    )


def _which(rng: random.Random, pool: PicturePool) -> PicturesAndQuestions:
    count = rng.choice((2, 3, 4))
    attribute = rng.choice(("colour", "shape"))
    images = tuple(
        pool.single(rng, attribute, value) for value in rng.sample(_values(attribute), count)
    )
    questions = []
    for k in rng.sample(range(count), 2):
        asked = _attribute(pool, images[k], attribute)
        text = (
            f"which image is {asked}?" if attribute == "colour" else f"which image has a {asked}?"
        )
        questions.append(MiniatureQuestion("which", text, ORDINALS[k], ORDINALS[:count]))
    questions.append(_of_image(rng, pool, images, rng.randrange(count)))
    return images, questions


def _odd_one_out(rng: random.Random, pool: PicturePool) -> PicturesAndQuestions:
    count = rng.choice((3, 4))
    attribute = rng.choice(("colour", "shape"))
    common, other = rng.sample(_values(attribute), 2)
    place = rng.randrange(count)
    images = tuple(
        pool.single(rng, attribute, other if k == place else common) for k in range(count)
    )
    text = f"which {attribute} is the odd one?"
    return images, [
        MiniatureQuestion("odd", text, ORDINALS[place], ORDINALS[:count]),
        _of_image(rng, pool, images, rng.randrange(count)),
    ]


def _match(rng: random.Random, pool: PicturePool) -> PicturesAndQuestions:
    """Ask which of the later pictures is like the first one."""
    count = rng.choice((3, 4))
    attribute = rng.choice(("colour", "shape"))
    values = rng.sample(_values(attribute), count - 1)
    place = rng.randrange(1, count)
    images = (
        pool.single(rng, attribute, values[place - 1]),
        *(pool.single(rng, attribute, value) for value in values),
    )
    text = f"which image has the same {attribute} as the first?"
    return images, [MiniatureQuestion("match", text, ORDINALS[place], ORDINALS[1:count])]


def _number_order(rng: random.Random, pool: PicturePool) -> PicturesAndQuestions:
    kind = rng.choice(("die", "dots", "group", "group", "clock"))
    count = rng.choice((2, 3, 4))
    numbers = rng.sample(range(1, 7 if kind == "die" else 10), count)
    images = tuple(pool.number(rng, kind, number) for number in numbers)
    most = MiniatureQuestion(
        "most",
        _extreme_question_text(kind, "most"),
        ORDINALS[numbers.index(max(numbers))],
        ORDINALS[:count],
    )
    fewest = MiniatureQuestion(
        "most",
        _extreme_question_text(kind, "fewest"),
        ORDINALS[numbers.index(min(numbers))],
        ORDINALS[:count],
    )
    k = rng.randrange(count)
    number_of_image = MiniatureQuestion(
        "number-of", f"what number is the {ORDINALS[k]} image?", NUMBERS[numbers[k]], NUMBERS[1:10]
    )
    image_of_number = MiniatureQuestion(
        "which", f"which image shows {NUMBERS[numbers[k]]}?", ORDINALS[k], ORDINALS[:count]
    )
    return images, [most, fewest, number_of_image, image_of_number]


def _extreme_question_text(kind: str, word: str) -> str:
    if kind == "clock":
        return f"which clock is {'last' if word == 'most' else 'first'}?"
    return f"which image has the {word} {'objects' if kind == 'group' else 'dots'}?"


def _next_number(rng: random.Random, pool: PicturePool) -> PicturesAndQuestions:
    kind = rng.choice(("die", "dots", "group", "clock"))
    limit = 12 if kind == "clock" else (6 if kind == "die" else 9)
    step = rng.choice((1, 1, 2, -1, -1, -2))
    starts = [
        s for s in range(1, limit + 1) if 1 <= s + 2 * step <= limit and 0 <= s + 3 * step <= 12
    ]
    start = rng.choice(starts)
    images = tuple(pool.number(rng, kind, start + k * step) for k in range(3))
    return images, [
        MiniatureQuestion(
            "next", "what number comes next?", NUMBERS[start + 3 * step], NUMBERS[:13]
        )
    ]


def _next_attribute(rng: random.Random, pool: PicturePool) -> PicturesAndQuestions:
    """Ask for the next element of an alternation: a b a -> b, or a b a b -> a."""
    attribute = rng.choice(("colour", "shape"))
    pair = rng.sample(_values(attribute), 2)
    count = rng.choice((3, 4))
    images = tuple(pool.single(rng, attribute, pair[k % 2]) for k in range(count))
    return images, [
        MiniatureQuestion(
            "next", f"what {attribute} comes next?", pair[count % 2], _values(attribute)
        )
    ]


def _total(rng: random.Random, pool: PicturePool) -> PicturesAndQuestions:
    kind = rng.choice(("die", "group", "dots"))
    first = rng.randint(1, 6)
    second = rng.randint(1, 6)
    images = (pool.number(rng, kind, first), pool.number(rng, kind, second))
    equal = "yes" if first == second else "no"
    return images, [
        MiniatureQuestion("total", "what is the sum?", NUMBERS[first + second], NUMBERS[2:]),
        MiniatureQuestion("same", "is it the same number?", equal, YES_NO),
    ]
