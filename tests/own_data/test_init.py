"""Test new federations: every kind of source, by every rule, with nothing lost or changed."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from sources import (
    CLASSES,
    COUNT,
    KINDS,
    MODEL,
    OTHER,
    class_folders,
    drake,
    json_file,
    parquet,
    rows,
)

import fedmosaic
from fedmosaic.config.load import load_scenario
from fedmosaic.data import Example, load_task, read_examples
from fedmosaic.errors import DataError
from fedmosaic.own_data.create import NewFederation
from fedmosaic.own_data.pool import read_pool

RULES = ("iid", "dirichlet:0.5", "dirichlet:2:site", "by:site")


def meaning(example: Example) -> tuple[object, ...]:
    keys = [image.key for image in example.images]
    return example.turns, example.options, example.choice, example.spellings, keys


def division(made: NewFederation) -> list[dict[str, str]]:
    with (made.folder / "division.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_item_is_in_one_file_and_means_the_same(
    kind: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    source = KINDS[kind](tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    clients = None if rule == "by:site" else 2
    here = Path(os.path.relpath(source))
    made = fedmosaic.init("fed", data=here, models=MODEL, clients=clients, split=rule)
    pool = read_pool(source)
    original = {(str(i.location.path), i.location.index): i.example for i in pool.items}
    for path in Path("fed").rglob("*.jsonl"):
        assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    lines = division(made)
    assert len(lines) == COUNT == len({(line["file"], line["item"]) for line in lines})
    folder = (tmp_path / "fed").absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # nothing is found because it is beside the command
    for line in lines:
        part = read_examples(folder / "data" / line["client"] / f"{line['split']}.jsonl")
        found = part[int(line["line"]) - 1]
        before = original[str(tmp_path / line["file"]), int(line["item"])]
        assert meaning(found) == meaning(before)
        is_test = tmp_path / line["file"] in {item.location.path for item in pool.test}
        assert not pool.test or is_test == (line["split"] == "test")
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} == {".jsonl", ".csv", ".yaml"}
    for client in load_scenario(folder / "scenario.yaml").clients:
        task = load_task(client.tasks[0].name, root=folder / "data")
        assert task.kind == "choice" and task.family == client.name
    assert [client.train + client.test for client in made.clients] == [
        sum(line["client"] == client.name for line in lines) for client in made.clients
    ]


def test_a_seed_decides(tmp_path: Path) -> None:
    source = json_file(tmp_path)

    def files(name: str, seed: int) -> dict[str, str]:
        made = fedmosaic.init(
            tmp_path / name, data=source, models=MODEL, clients=3, split="dirichlet:1", seed=seed
        )
        found = sorted(made.folder.rglob("*.jsonl"))
        return {str(path.relative_to(made.folder)): path.read_text() for path in found}

    assert files("a", 0) == files("b", 0) != files("c", 1)


def test_items_by_a_field(tmp_path: Path) -> None:
    made = fedmosaic.init(tmp_path / "a", data=json_file(tmp_path), models=MODEL, split="by:site")
    assert [(c.name, c.values, c.train + c.test) for c in made.clients] == [
        ("north", ("north",), 12),
        ("south", ("south",), 8),
        ("east", ("east",), 4),
    ]
    grouped = fedmosaic.init(
        tmp_path / "b", data=tmp_path / "items.json", models=MODEL, split="by:site", clients=2
    )
    assert [(c.name, c.values) for c in grouped.clients] == [
        ("client-0", ("north",)),
        ("client-1", ("south", "east")),
    ]
    named = fedmosaic.init(
        tmp_path / "c",
        data=tmp_path / "items.json",
        models=MODEL,
        split="by:site",
        clients=["east", "south", "north"],
    )
    assert all(client.values == (client.name,) for client in named.clients)


def test_items_by_their_file(tmp_path: Path) -> None:
    made = fedmosaic.init(tmp_path / "a", data=drake(tmp_path), models=MODEL, split="by:file")
    assert [(c.name, c.train, c.test) for c in made.clients] == [
        ("dataset-0", 8, 4),
        ("dataset-1", 8, 4),
    ]


def test_pictures_in_folders_of_their_classes(tmp_path: Path) -> None:
    source = class_folders(tmp_path)
    made = fedmosaic.init(
        tmp_path / "fed", data=source, models=MODEL, clients=2, split="dirichlet:0.1"
    )
    assert made.clients[0].labels.keys() | made.clients[1].labels.keys() == set(CLASSES)
    example = read_examples(made.folder / "data" / "client-0" / "test.jsonl")[0]
    path = example.images[0].source
    assert isinstance(path, Path) and path.parent == source.resolve() / example.answer
    assert example.options == tuple(sorted(CLASSES))


def test_pictures_on_both_sides_are_named(tmp_path: Path) -> None:
    items = [{**item, "question": q} for item in rows(tmp_path) for q in ("Which?", "What?")]
    (tmp_path / "pairs.json").write_text(json.dumps(items))
    made = fedmosaic.init(tmp_path / "fed", data=tmp_path / "pairs.json", models=MODEL, clients=2)
    (note,) = (note for note in made.notes if "held-out" in note)
    trained, tested = (
        [
            {image.source for image in example.images}
            for client in made.clients
            for example in read_examples(made.folder / "data" / client.name / f"{split}.jsonl")
        ]
        for split in ("train", "test")
    )
    count = sum(bool(pictures & set.union(*trained)) for pictures in tested)
    assert count and note.startswith(f"{count} of 10 held-out items show a picture")
    plain = fedmosaic.init(tmp_path / "b", data=json_file(tmp_path), models=MODEL, clients=2)
    assert not [note for note in plain.notes if "held-out" in note]


def test_values_that_are_no_names(tmp_path: Path) -> None:
    items = [{**item, "site": f"St. {item['site']}/1"} for item in rows(tmp_path)]
    (tmp_path / "a.json").write_text(json.dumps(items))
    made = fedmosaic.init(tmp_path / "fed", data=tmp_path / "a.json", models=MODEL, split="by:site")
    assert [client.name for client in made.clients] == ["St. north-1", "St. south-1", "St. east-1"]
    assert "client 'St. north-1' has the items with site 'St. north/1'" in made.notes
    load_scenario(made.scenario)


def test_the_held_out_share_has_the_labels_of_its_client(tmp_path: Path) -> None:
    made = fedmosaic.init(
        tmp_path / "fed", data=json_file(tmp_path), models=MODEL, clients=2, test=0.5
    )
    assert [(client.train, client.test) for client in made.clients] == [(6, 6)] * 2
    for client in made.clients:
        test = read_examples(made.folder / "data" / client.name / "test.jsonl")
        counts = Counter(example.answer for example in test)
        assert all(abs(counts[label] - client.labels[label]) <= 1 for label in CLASSES)


def test_public_items_belong_to_no_client(tmp_path: Path) -> None:
    made = fedmosaic.init(
        tmp_path / "fed", data=json_file(tmp_path), models=[MODEL, OTHER], clients=2, public=0.25
    )
    assert made.public == 6
    split = Counter(line["split"] for line in division(made))
    assert split == {"public": 6, "train": 14, "test": 4}
    scenario = load_scenario(made.scenario)
    assert (scenario.data.public, scenario.data.public_size) == ("public.jsonl", 6)
    assert scenario.alignment.probe == "likelihood"  # three answers are too few for words
    assert len(read_examples(made.folder / "data" / "public.jsonl")) == 6


def test_several_models_are_aligned_on_public_data(tmp_path: Path) -> None:
    source = json_file(tmp_path)
    one = fedmosaic.init(tmp_path / "one", data=source, models=MODEL, clients=3)
    two = fedmosaic.init(tmp_path / "two", data=source, models=[MODEL, OTHER], clients=3)
    alike, mixed = load_scenario(one.scenario), load_scenario(two.scenario)
    assert (alike.alignment.method, alike.data.public) == ("none", "none")
    assert (mixed.alignment.method, mixed.data.public) == ("gradients", "miniature/public")
    assert [client.model for client in mixed.clients] == [MODEL, OTHER, MODEL]
    texts = [{"question": f"{n}?", "answer": f"it is {n}"} for n in range(9)]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    plain = fedmosaic.init(
        tmp_path / "plain", data=tmp_path / "texts.json", models=[MODEL, OTHER], clients=2
    )
    assert load_scenario(plain.scenario).data.public == "synthetic/text"


def test_names_and_titles_are_yaml(tmp_path: Path) -> None:
    names = ["no", "1.5", "reference", "Zoë B"]
    made = fedmosaic.init(
        tmp_path / "fed",
        data=json_file(tmp_path),
        models=MODEL,
        clients=names,
        title="a: b # c\nd",
    )
    scenario = load_scenario(made.scenario)
    assert [client.name for client in scenario.clients] == names
    assert scenario.title == "a: b # c d"
    for client in scenario.clients:
        assert load_task(client.tasks[0].name, root=made.folder / "data").train


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = json_file(tmp_path)
    (tmp_path / "fed").mkdir()
    monkeypatch.chdir(tmp_path / "fed")
    fedmosaic.init(".", data=source, models=MODEL, clients=2)
    assert sorted(p.name for p in Path().iterdir()) == ["data", "division.csv", "scenario.yaml"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = json_file(tmp_path)
    before = sorted(tmp_path.iterdir())

    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedmosaic.own_data.create.scenario_text", full)
    with pytest.raises(OSError, match="No space"):
        fedmosaic.init(tmp_path / "fed", data=source, models=MODEL, clients=2)
    assert sorted(tmp_path.iterdir()) == before


def test_items_with_and_without_options_are_open(tmp_path: Path) -> None:
    items = rows(tmp_path)
    for item in items[::2]:
        del item["choices"]
    (tmp_path / "mixed.json").write_text(json.dumps(items))
    made = fedmosaic.init(tmp_path / "fed", data=tmp_path / "mixed.json", models=MODEL, clients=2)
    assert {c.tasks[0].kind for c in load_scenario(made.scenario).clients} == {"open"}


def test_a_changed_table_is_noticed(tmp_path: Path) -> None:
    source = parquet(tmp_path)
    made = fedmosaic.init(tmp_path / "fed", data=source, models=MODEL, clients=2)
    (tmp_path / "new").mkdir()
    import pyarrow.parquet as pq

    shifted = pq.read_table(source)
    pq.write_table(shifted.slice(1), source)
    found = read_examples(made.folder / "data" / "client-0" / "train.jsonl")
    with pytest.raises(DataError, match="the table has changed"):
        found[0].images[0].load()


def test_test_items_follow_the_labels_of_their_client(tmp_path: Path) -> None:
    items = [
        {"text": f"item {n}", "label": CLASSES[n % 3], "options": list(CLASSES)} for n in range(120)
    ]
    (tmp_path / "train.json").write_text(json.dumps(items))
    (tmp_path / "test.json").write_text(json.dumps(items[:60]))
    made = fedmosaic.init(
        tmp_path / "fed", data=tmp_path, models=MODEL, clients=3, split="dirichlet:0.2"
    )
    for client in made.clients:
        test = read_examples(made.folder / "data" / client.name / "test.jsonl")
        counts = Counter(example.answer for example in test)
        assert all(abs(2 * counts[label] - client.labels[label]) < 2 for label in CLASSES)
