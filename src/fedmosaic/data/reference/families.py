"""Families of reference tasks: one question about every entity of a kind, and the answer that the data gives by some convention.

Where cities lie and what words are: something a language model has met, asked so that it must learn which answers are wanted. There are
two families about each. They ask the same and answer by different conventions: only the examples tell which. All options are one token
in the models that the tasks were made for, so that a question costs one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedmosaic.data.reference.sources import City, Word, cities, words

TROPIC = 23.4  # degrees from the equator
WEST, EAST = -30.0, 60.0  # the Americas; Europe, Africa and the Near East; the rest


class Entity(Protocol):
    """What is asked about, by its text; by that it also falls to training, testing or the public set."""

    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Family:
    """One question about the entities of one kind.

    Attributes:
        name: of the family; its tasks are ``reference/<name>-<slice>``.
        entities: all of them, always in the same order.
        question: with ``{}`` for an entity's text.
        answer: of an entity, one of ``options``; None where the question does not fit it.
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
    """Its only part of speech, or ``both`` a noun and a verb."""
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
