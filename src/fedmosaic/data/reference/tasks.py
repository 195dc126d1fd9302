"""Build the tasks ``reference/<family>-<slice>`` and the public set ``reference/public``.

    task = load_task("where-latitude-0", seed=1)
    task.train[0].question        # "Where is Cusco?"
    task.train[0].answer          # "tropical"

Every entity (a city or a word) belongs to one part only, by a hash of its text and the seed: a
tenth of them to the public set, four tenths to the test sets, the rest to training. It also belongs
to one of three slices. Parts and slices are the same in all families. So no test asks about an
entity that any client trains on, and the slices of a family ask the same question about different
entities. Every answer is equally frequent as long as there are entities for it. The public set asks
about letters, which no family does.
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
TRAIN, TEST = 100, 100  # examples of a task
TASKS = tuple(f"{name}-{number}" for name in FAMILIES for number in range(SLICES))


def load_task(
    name: str, *, seed: int = 0, train_limit: int | None = None, test_limit: int | None = None
) -> Task:
    """Return the task ``reference/<name>``, one slice of a family.

    Args:
        name: one of :data:`TASKS`.
        seed: decides which entity belongs to which part and slice, and their order.
        train_limit: the most training examples; default None, 100. A longer set begins with the
            shorter one.
        test_limit: the most test examples; default None, 100.

    Raises:
        DataError: the name is unknown, or a package is missing.
    """
    if name not in TASKS:
        raise DataError(f"the reference tasks have no {name!r}.{nearest(name, TASKS)}")
    family_name, _, number = name.rpartition("-")
    family = FAMILIES[family_name]

    def take(part: Part, limit: int) -> tuple[Example, ...]:
        answered = (
            (entity.text, family.answer(entity))
            for entity in _entities(family, part, int(number), seed)
        )
        pairs = _alternate((text, answer) for text, answer in answered if answer is not None)
        return tuple(
            _example(f"{name}/{part}/{index}", family.question.format(text), answer, family.options)
            for index, (text, answer) in enumerate(islice(pairs, limit))
        )

    examples = (
        take("train", TRAIN if train_limit is None else train_limit),
        take("test", TEST if test_limit is None else test_limit),
    )
    return Task(
        f"reference/{name}", *examples, family=family_name, group=family_name.partition("-")[0]
    )


def public_set(n: int, seed: int = 0) -> tuple[Example, ...]:
    """Return ``n`` examples about the letters of public words and cities; all, if there are fewer.

    Raises:
        DataError: a package is missing.
    """
    entities: tuple[Entity, ...] = (*words(), *cities())
    texts = [entity.text for entity in entities if _part(entity, seed) == "public"]
    order = rng(seed, "reference", "public").permutation(len(texts)).tolist()
    text_pairs = islice(pairwise(texts[index] for index in order), n)
    return tuple(
        _example(f"public/{i}", *_LETTER_QUESTIONS[i % len(_LETTER_QUESTIONS)](*pair))
        for i, pair in enumerate(text_pairs)
    )


def _entities(family: Family, part: Part, number: int, seed: int) -> Iterator[Entity]:
    """Yield the entities of one part and slice of a family, in an order drawn by the seed."""
    entities = family.entities()
    for index in rng(seed, "reference", family.name).permutation(len(entities)).tolist():
        entity = entities[index]
        if _part(entity, seed) == part and _hash(seed, "slice", entity.text) % SLICES == number:
            yield entity


def _part(entity: Entity, seed: int) -> Part:
    tenth = _hash(seed, "part", entity.text) % 10
    return "public" if tenth == 0 else "test" if tenth <= 4 else "train"


@cache
def _hash(seed: int, what: str, text: str) -> int:
    return seed_for(seed, "reference", what, text)


def _alternate(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield texts with their answers so that the answers alternate, as long as any are left."""
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


# Kinds of questions about letters: (question, answer) about one or two texts.
_LETTER_QUESTIONS = (
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
