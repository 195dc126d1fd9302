"""Read the reference data from the data files of two small packages; their code is not run.

| package | what is read | licence |
|---|---|---|
| ``lemminflect`` | parts of speech and plurals of English words (SPECIALIST lexicon, NIH) | MIT |
| ``airportsdata`` | airports with their city and coordinates | MIT |

They are installed by the extra ``reference``. Only plain entries are taken: words of 3 to 10
letters, and cities with an airport of scheduled flights (one that has an IATA code).
"""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from fedmosaic.errors import DataError

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
_WORD = re.compile(r"[a-z]{3,10}")
_CITY = re.compile(r"[A-Za-z ]{3,16}")


@dataclass(frozen=True)
class Word:
    """Hold an English word.

    Attributes:
        text: the word, in lower case.
        parts: which of :data:`PARTS_OF_SPEECH` it can be.
        mass: whether the noun has a plural equal to the singular: rice, gold, advice (and sheep).
    """

    text: str
    parts: frozenset[str]
    mass: bool = False


@dataclass(frozen=True)
class City:
    """Hold a city with an airport.

    Attributes:
        text: name of the city.
        latitude: of the airport, in degrees, north positive.
        longitude: of the airport, in degrees, east positive.
    """

    text: str
    latitude: float
    longitude: float


@cache
def words() -> tuple[Word, ...]:
    """Return the plain words in alphabetical order.

    Raises:
        DataError: the package is missing or has no such file.
    """
    forms: dict[str, dict[str, str]] = defaultdict(dict)
    with gzip.open(
        _data_file("lemminflect", "lemminflect/resources/infl_lu.csv.gz"), "rt", encoding="utf-8"
    ) as lines:
        for line in lines:
            word, part, inflected, *_ = line.strip("\n").split(",")
            if part in PARTS_OF_SPEECH and _WORD.fullmatch(word):
                forms[word][part] = inflected
    return tuple(
        Word(word, frozenset(forms[word]), word in forms[word].get("noun", "").split("/"))
        for word in sorted(forms)
    )


@cache
def cities() -> tuple[City, ...]:
    """Return the cities with an airport in alphabetical order; of equal names the first entry.

    Raises:
        DataError: the package is missing or has no such file.
    """
    found: dict[str, City] = {}
    with _data_file("airportsdata", "airportsdata/airports.csv").open(
        encoding="utf-8", newline=""
    ) as lines:
        for row in csv.DictReader(lines):
            if row["iata"] and _CITY.fullmatch(row["city"]):
                found.setdefault(
                    row["city"], City(row["city"], float(row["lat"]), float(row["lon"]))
                )
    return tuple(found[name] for name in sorted(found))


def _data_file(package: str, path: str) -> Path:
    """Return the path of a data file of an installed package, without importing the package."""
    try:
        found = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError as error:
        raise DataError(
            f"the reference tasks need the package {package};"
            " get all they need with: pip install 'fedmosaic[reference]'"
        ) from error
    if not found.is_file():
        raise DataError(
            f"package {package} {distribution(package).version} has no file {path};"
            " install the tested version with: pip install 'fedmosaic[reference]'"
        )
    return found
