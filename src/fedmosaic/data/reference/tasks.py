"""Tasks ``reference/<family>-<slice>`` and the public set ``reference/public``.

    task = load_task("where-latitude-0", seed=1)
    task.train[0].question        # "Where is Cusco?"
    task.train[0].answer          # "tropical"

Every entity (a city, a word) belongs to one part only, drawn by its text and the seed: a tenth to the public set, four tenths to the test
sets, the rest to training; and to one of three slices. Parts and slices are the same in all families: nothing that any client trains on is
asked in any test, and the slices of a family are the same question about different entities. As far as there are entities, every answer
comes equally often. The public set asks about letters, which no family does.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice, pairwise
from typing import Literal

from fedmosaic.data.example import Example, Task, Turn
from fedmosaic.data.reference.families import FAMILIES, Entity, Family
from fedmosaic.data.reference.sources import cities, words
from fedmosaic.errors import DataError, nearest
from fedmosaic.seeding import rng, seed_for

Part = Literal["public", "test", "train"]
SLICES = 3
TRAIN, TEST = 100, 100
TASKS = tuple(f"{name}-{number}" for name in FAMILIES for number in range(SLICES))


def load_task(
    name: str, *, seed: int = 0, train: int | None = None, test: int | None = None
) -> Task:
    """One slice of a family.

    Args:
        seed: says which entity belongs to which part and slice, and their order.
        train, test: the most examples; default 100 each. A longer set begins with the shorter.

    Raises:
        DataError: an unknown name (with the nearest ones), or a package is missing (with how to get it).
    """
    if name not in TASKS:
        raise DataError(f"the reference tasks have no {name!r}.{nearest(name, TASKS)}")
    family_name, _, number = name.rpartition("-")
    family = FAMILIES[family_name]

    def some(part: Part, most: int) -> tuple[Example, ...]:
        asked = (
            (entity.text, family.answer(entity))
            for entity in _entities(family, part, int(number), seed)
        )
        pairs = _in_turns((text, answer) for text, answer in asked if answer is not None)
        return tuple(
            _example(f"{name}/{part}/{index}", family.question.format(text), answer, family.options)
            for index, (text, answer) in enumerate(islice(pairs, most))
        )

    examples = (
        some("train", TRAIN if train is None else train),
        some("test", TEST if test is None else test),
    )
    return Task(
        f"reference/{name}", *examples, family=family_name, group=family_name.partition("-")[0]
    )


def public_set(n: int, seed: int = 0) -> tuple[Example, ...]:
    """``n`` examples about the letters of public words and cities (all, if there are fewer). Raises DataError."""
    entities: tuple[Entity, ...] = (*words(), *cities())
    texts = [entity.text for entity in entities if _part(entity, seed) == "public"]
    order = rng(seed, "reference", "public").permutation(len(texts)).tolist()
    asked = islice(pairwise(texts[index] for index in order), n)
    return tuple(
        _example(f"public/{i}", *_LETTERS[i % len(_LETTERS)](*pair)) for i, pair in enumerate(asked)
    )


def _entities(family: Family, part: Part, number: int, seed: int) -> Iterator[Entity]:
    """The entities of one part and slice of a family, in an order of the seed's."""
    everything = family.entities()
    for index in rng(seed, "reference", family.name).permutation(len(everything)).tolist():
        entity = everything[index]
        if _part(entity, seed) == part and _hash(seed, "slice", entity.text) % SLICES == number:
            yield entity


def _part(entity: Entity, seed: int) -> Part:
    tenth = _hash(seed, "part", entity.text) % 10
    return "public" if tenth == 0 else "test" if tenth <= 4 else "train"


@cache
def _hash(seed: int, what: str, text: str) -> int:
    return seed_for(seed, "reference", what, text)


def _in_turns(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Texts with their answers so that the answers take turns, for as long as there are any of each."""
    waiting: dict[str, deque[str]] = defaultdict(deque)
    for text, answer in pairs:
        waiting[answer].append(text)
    while any(waiting.values()):
        for answer in sorted(waiting):
            if waiting[answer]:
                yield waiting[answer].popleft(), answer


def _example(name: str, question: str, answer: str, options: tuple[str, ...] = ()) -> Example:
    return Example(
        f"reference/{name}", (Turn("user", question), Turn("assistant", answer)), options=options
    )


# Question and answer about one text or two.
_LETTERS = (
    lambda one, two: (f"Spell '{one}'.", "-".join(one)),
    lambda one, two: (f"Write '{one}' in capitals.", one.upper()),
    lambda one, two: (
        f"Which comes first in the alphabet, '{one}' or '{two}'?",
        min(one, two, key=str.lower),
    ),
    lambda one, two: (f"What is the first letter of '{one}'?", one[0]),
    lambda one, two: (f"Which is longer, '{one}' or '{two}'?", max(one, two, key=len)),
    lambda one, two: (f"Write '{one}' and '{two}' as a list.", f"- {one}\n- {two}"),
)
