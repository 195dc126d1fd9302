"""Generate text examples: stories with a question, sums, lists and plain sentences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from fedmosaic.data.example import Example, LazyExamples, Turn
from fedmosaic.data.synthetic.draws import pick, sample
from fedmosaic.data.synthetic.pictures import COLOURS
from fedmosaic.errors import DataError
from fedmosaic.seeding import rng as named_rng

PEOPLE = (
    "Anna", "Ben", "Chloe", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Keiko",
    "Liam",
)  # fmt: skip
THINGS = (
    "apple", "basket", "bicycle", "book", "bottle", "camera", "candle", "chair", "clock", "coat",
    "cup", "drum", "flower", "guitar", "hammer", "key", "lamp", "letter", "map", "mirror", "piano",
    "ring", "shoe", "spoon",
)  # fmt: skip
ROOMS = (
    "kitchen", "garden", "office", "library", "garage", "station", "school", "market", "harbour",
    "museum",
)  # fmt: skip
MANNERS = (
    "quickly", "slowly", "carefully", "quietly", "early in the morning", "late at night",
    "before lunch",
)  # fmt: skip
EVENTS = ("sold", "found", "painted", "repaired", "forgotten")


def synthetic_texts(n: int, seed: int = 0) -> LazyExamples:
    """Return ``n`` text examples, made on access; a longer set begins with the shorter one.

    Raises:
        DataError: ``n`` is less than 1.
    """
    if n < 1:
        raise DataError(f"synthetic data must have at least one example, not {n}")
    return LazyExamples(n, partial(_example, seed))


def _example(seed: int, index: int) -> Example:
    make = _KINDS[index % len(_KINDS)]
    question, answer = make(named_rng("synthetic", "text", seed, index))
    user_turns = (Turn("user", question),) if question else ()
    turns = (*user_turns, Turn("assistant", answer))
    return Example(f"synthetic/text/{seed}/{index}", turns)


def _story(rng: np.random.Generator) -> tuple[str, str]:
    people, things = sample(rng, PEOPLE, 3), sample(rng, THINGS, 3)
    rooms = [pick(rng, ROOMS) for _ in people]
    lines = [
        f"{who} took the {what} to the {where} {pick(rng, MANNERS)}."
        for who, what, where in zip(people, things, rooms, strict=True)
    ]
    k = int(rng.integers(3))
    questions: tuple[tuple[str, str], ...] = (
        (f"Where is the {things[k]} now?", f"The {things[k]} is in the {rooms[k]}."),
        (f"Who took the {things[k]}?", people[k]),
        (f"What did {people[k]} take along?", f"The {things[k]}."),
    )
    question, answer = pick(rng, questions)
    return f"{' '.join(lines)}\n\n{question}", answer


def _sum(rng: np.random.Generator) -> tuple[str, str]:
    one, two = (int(number) for number in rng.integers(2, 60, 2))
    if rng.random() < 0.5:
        return f"What is {one} plus {two}?", f"{one + two}"
    one, two = max(one, two), min(one, two)
    return (
        f"{pick(rng, PEOPLE)} had {one} coins and gave away {two}. How many are left?",
        f"{one - two} coins are left.",
    )


def _list(rng: np.random.Generator) -> tuple[str, str]:
    words = sample(rng, THINGS, int(rng.integers(3, 7)))
    if rng.random() < 0.5:
        return f"Sort these words by the alphabet: {', '.join(words)}.", ", ".join(sorted(words))
    return f"Write this as a list:\n{'; '.join(words)}", "\n".join(f"- {word}" for word in words)


def _choice(rng: np.random.Generator) -> tuple[str, str]:
    words = [*sample(rng, ROOMS, 3)]
    thing = pick(rng, THINGS)
    words.insert(int(rng.integers(4)), thing)
    return f"Which of these is not a place: {', '.join(words)}?", thing


def _sentences(rng: np.random.Generator) -> tuple[str, str]:
    lines = [
        f"The {pick(rng, tuple(COLOURS))} {pick(rng, THINGS)} of {pick(rng, PEOPLE)} stood in the"
        f" {pick(rng, ROOMS)} and was {pick(rng, EVENTS)} {pick(rng, MANNERS)}."
        for _ in range(int(rng.integers(2, 5)))
    ]
    return "", " ".join(lines)


# Each returns a question and its answer; plain sentences have no question.
_KINDS: tuple[Callable[[np.random.Generator], tuple[str, str]], ...] = (
    _story, _sum, _list, _choice, _sentences,
)  # fmt: skip
