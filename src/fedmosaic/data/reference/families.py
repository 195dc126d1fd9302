"""Define the families of reference tasks: one question about every entity of a kind.

The questions are about the position of cities and the kind of words, which language models know
from their pretraining. Two families ask the same question about the same entities and answer it by
different conventions; a model learns from the training examples which answers are wanted. Every
option is one token in the models that the tasks were made for, so a question takes one forward
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedmosaic.data.reference.sources import City, Word, cities, words

# Degrees of latitude of the tropics.
TROPIC = 23.4
# Degrees of longitude between the Americas, then Europe, Africa and the Near East, then the rest.
WEST, EAST = -30.0, 60.0


class Entity(Protocol):
    """Describe what is asked about.

    Attributes:
        text: its name. The name also decides whether the entity is used for training, for testing
            or in the public set.
    """

    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Family:
    """Define one question about the entities of one kind.

    Attributes:
        name: name of the family; its tasks are ``reference/<name>-<slice>``.
        entities: returns all entities, always in the same order.
        question: the question, with ``{}`` in place of an entity's text.
        answer: returns the answer for an entity, one of ``options``; None if the question does not
            fit the entity.
        options: the answers to choose from.
    """

    name: str
    entities: Callable[[], Sequence[Entity]]
    question: str
    answer: Callable[[Any], str | None]
    options: tuple[str, ...]


def _zone(city: City) -> str:
    return "tropical" if abs(city.latitude) <= TROPIC else "north" if city.latitude > 0 else "south"


def _third(city: City) -> str:
    return "west" if city.longitude < WEST else "east" if city.longitude > EAST else "middle"


def _kind(word: Word) -> str | None:
    """Return a word's only part of speech, or ``both`` for noun and verb, or None."""
    if word.parts == {"noun", "verb"}:
        return "both"
    return next(iter(word.parts & {"noun", "verb", "adj"}), None) if len(word.parts) == 1 else None


def _countable(word: Word) -> str | None:
    return ("mass" if word.mass else "count") if word.parts == {"noun"} else None


_ALL = (
    Family("where-latitude", cities, "Where is {}?", _zone, ("north", "tropical", "south")),
    Family("where-longitude", cities, "Where is {}?", _third, ("west", "middle", "east")),
    Family("word-kind", words, "What is '{}'?", _kind, ("noun", "verb", "both", "adj")),
    Family("word-count", words, "What is '{}'?", _countable, ("count", "mass")),
)
FAMILIES = {family.name: family for family in _ALL}
