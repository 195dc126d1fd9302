"""Test the reference tasks: answers of the families, division of entities, and their packages."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.config.load import load_scenario
from fedmosaic.data import load_task, public_examples
from fedmosaic.data.check import check
from fedmosaic.data.reference import sources, tasks
from fedmosaic.data.reference.families import FAMILIES
from fedmosaic.data.reference.sources import City, Word
from fedmosaic.data.reference.tasks import SLICES, TASKS
from fedmosaic.errors import DataError

PACKAGES = ("lemminflect", "airportsdata")


def _installed(package: str) -> bool:
    try:
        return bool(distribution(package))
    except PackageNotFoundError:
        return False


missing = [package for package in PACKAGES if not _installed(package)]
real_data = pytest.mark.skipif(
    bool(missing), reason=f"not installed (extra 'reference'): {', '.join(missing)}"
)

CUSCO, OSLO, PERTH = (
    City("Cusco", -13.5, -72.0),
    City("Oslo", 60.2, 11.1),
    City("Perth", -31.9, 116.0),
)


# --- what a family answers ---
@pytest.mark.parametrize(
    ("family", "answers"),
    [
        ("where-latitude", [(CUSCO, "tropical"), (OSLO, "north"), (PERTH, "south")]),
        ("where-longitude", [(CUSCO, "west"), (OSLO, "middle"), (PERTH, "east")]),
        (
            "word-kind",
            [
                (Word("cat", frozenset({"noun"})), "noun"),
                (Word("walk", frozenset({"noun", "verb"})), "both"),
                (Word("red", frozenset({"adj"})), "adj"),
                (Word("softly", frozenset({"adv"})), None),
                (Word("calm", frozenset({"noun", "verb", "adj"})), None),
                (Word("clean", frozenset({"verb", "adj"})), None),
            ],
        ),
        (
            "word-count",
            [
                (Word("cat", frozenset({"noun"})), "count"),
                (Word("rice", frozenset({"noun"}), mass=True), "mass"),
                (Word("water", frozenset({"noun", "verb"}), mass=True), None),
                (Word("red", frozenset({"adj"})), None),
            ],
        ),
    ],
)
def test_families(family: str, answers: list[tuple[Any, str | None]]) -> None:
    for entity, expected in answers:
        assert FAMILIES[family].answer(entity) == expected, entity.text
        assert expected is None or expected in FAMILIES[family].options


def test_two_pairs_of_families_ask_the_same_and_answer_differently() -> None:
    for one, other in (("where-latitude", "where-longitude"), ("word-kind", "word-count")):
        assert FAMILIES[one].question == FAMILIES[other].question
        assert not set(FAMILIES[one].options) & set(FAMILIES[other].options)


# --- small packages, read from their files ---
AIRPORTS = (
    ("Lima", "SPJC", "LIM", "-12.0", "-77.1"),
    ("Miami", "KMIA", "MIA", "25.8", "-80.3"),
    ("Miami", "YMIA", "MIX", "-28.0", "153.4"),
    ("Field", "ENXX", "", "60.2", "11.1"),
    ("Tromsø", "ENTC", "TOS", "69.7", "18.9"),
)
LEXICON = (
    "cat,noun,cats", "rice,noun,rices/rice", "new,noun,news", "walk,noun,walks",
    "walk,verb,walked,,walking,walks", "ox,noun,oxen", "Dog,propn,Dogs", "ad hoc,adj,",
)  # fmt: skip


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the packages with a few entries each; their code fails if anything runs it."""
    runtime = tmp_path / "runtime"
    for package in PACKAGES:
        (runtime / package).mkdir(parents=True)
        (runtime / package / "__init__.py").write_text(
            "raise RuntimeError('the code of a data package was run')"
        )
        about = runtime / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (runtime / "lemminflect/resources").mkdir()
    with gzip.open(runtime / "lemminflect/resources/infl_lu.csv.gz", "wt") as lines:
        lines.write("\n".join(LEXICON) + "\n")
    rows = [f"{icao},{iata},a name,{city},{lat},{lon}\n" for city, icao, iata, lat, lon in AIRPORTS]
    (runtime / "airportsdata/airports.csv").write_text(
        "icao,iata,name,city,lat,lon\n" + "".join(rows), encoding="utf-8"
    )
    monkeypatch.syspath_prepend(runtime)
    caches = (sources.words, sources.cities)
    for cache in caches:
        cache.cache_clear()
    yield runtime
    for cache in caches:
        cache.cache_clear()


def test_words_are_plain_and_have_all_their_parts_of_speech(packages: Path) -> None:
    found = {word.text: set(word.parts) for word in sources.words()}
    assert found == {"cat": {"noun"}, "new": {"noun"}, "rice": {"noun"}, "walk": {"noun", "verb"}}
    assert [word.text for word in sources.words() if word.mass] == ["rice"]


def test_cities_have_scheduled_flights_and_a_plain_name(packages: Path) -> None:
    found = {city.text: (city.latitude, city.longitude) for city in sources.cities()}
    assert found == {"Lima": (-12.0, -77.1), "Miami": (25.8, -80.3)}


def test_a_file_that_is_not_there(packages: Path) -> None:
    (packages / "airportsdata/airports.csv").unlink()
    with pytest.raises(
        DataError, match=r"package airportsdata 1\.0 has no file airportsdata/airports\.csv"
    ):
        sources.cities()


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(sources, "distribution", absent)
    sources.words.cache_clear()
    with pytest.raises(
        DataError, match=r"need the package lemminflect; .*pip install 'fedmosaic\[reference\]'"
    ):
        load_task("reference/word-kind-0")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"have no 'where-latitude-7'\. Did you mean 'where-latitude-\d'"
    ):
        load_task("reference/where-latitude-7")


# --- all tasks on the real data ---
@real_data
@pytest.mark.parametrize("family", FAMILIES)
def test_every_slice_is_balanced_and_answerable(family: str) -> None:
    loaded = [load_task(f"reference/{family}-{number}") for number in range(SLICES)]
    check(*loaded)
    for task in loaded:
        assert len(task.train) == tasks.TRAIN and len(task.test) == tasks.TEST == 100
        assert (task.kind, task.metric, task.family) == ("choice", "accuracy", family)
        for examples in (task.train, task.test):
            answers = Counter(example.answer for example in examples)
            assert set(answers) == set(FAMILIES[family].options)
            assert max(answers.values()) <= 1.5 * len(examples) / len(
                answers
            )  # always the same answer is worth little
    questions = [example.question for task in loaded for example in (*task.train, *task.test)]
    assert len(set(questions)) == len(questions)


@real_data
def test_nothing_tested_anywhere_is_trained_on_or_public() -> None:
    texts: dict[str, set[str]] = {"train": set(), "test": set(), "public": set()}
    for entities in (sources.words(), sources.cities()):
        for entity in entities:
            texts[tasks._part(entity, 0)].add(entity.text)
    assert not texts["train"] & texts["test"] and not texts["public"] & (
        texts["train"] | texts["test"]
    )
    sizes = {part: len(found) for part, found in texts.items()}
    assert 0.38 < sizes["test"] / sum(sizes.values()) < 0.42
    # ... and what a task asks about is of its part, in whichever family.
    for name in ("where-latitude-1", "where-longitude-1"):
        task = load_task(f"reference/{name}")
        for part in ("train", "test"):
            named = {
                example.question.removeprefix("Where is ").rstrip("?")
                for example in getattr(task, part)
            }
            assert named and named <= texts[part]


@real_data
def test_samples_repeat_and_nest() -> None:
    task, same, other = (load_task("reference/where-longitude-0", seed=seed) for seed in (0, 0, 1))
    texts = [[example.question for example in one.train] for one in (task, same, other)]
    assert texts[0] == texts[1] != texts[2]
    short = load_task("reference/where-longitude-0", train_limit=7, test_limit=3)
    assert [example.question for example in short.train] == texts[0][:7] and len(short.test) == 3


@real_data
def test_the_public_set_asks_what_no_family_asks() -> None:
    public = public_examples("reference/public", 60)
    assert len(public) == 60 and not any(example.options for example in public)
    starts = {example.question.partition("'")[0] for example in public}
    asked = {family.question.partition("{}")[0].rstrip("'") for family in FAMILIES.values()}
    assert len(starts) == 5 and not starts & asked
    fewer = public_examples("reference/public", 10)
    assert [example.question for example in fewer] == [example.question for example in public[:10]]


def test_the_scenario() -> None:
    """Check that groups span models, slices are not shared, and two clients are unrelated."""
    scenario = load_scenario("reference/hetero")
    used = [
        task.name.removeprefix("reference/") for client in scenario.clients for task in client.tasks
    ]
    assert len(set(used)) == len(used) == len(scenario.clients) and set(used) <= set(TASKS)
    families: dict[str, set[str]] = {}
    for client in scenario.clients:
        families.setdefault(client.group, set()).update(
            t.name.rpartition("-")[0] for t in client.tasks
        )
    assert all(len(found) == 1 for found in families.values()) and len(
        set.union(*families.values())
    ) == len(families)
    models = {group: [c.model for c in scenario.clients if c.group == group] for group in families}
    assert sorted(map(len, models.values())) == [1, 1, 3, 3]
    assert all(len(set(found)) == 2 for found in models.values() if len(found) == 3)
    assert Counter(client.model for client in scenario.clients).most_common(1)[0][1] == 4
