"""Test that a folder in DRAKE's published layout reads as it is, every task of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.config.data import TaskSpec
from fedmosaic.config.load import load_scenario
from fedmosaic.data import Task
from fedmosaic.data.check import check
from fedmosaic.data.registry import load_task
from fedmosaic.data.sources import how_to_get, sources_of
from fedmosaic.errors import DataError
from tests.drake.tree import write_tree

TASKS = [task for source in sources_of("drake") for task in source.tasks]
SCENARIO = load_scenario("drake/hetero-llama-1b-3b")
SPECS = {
    spec.name: spec
    for spec in [*SCENARIO.unseen, *(s for client in SCENARIO.clients for s in client.tasks)]
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("published") / "DRAKE", train=4, test=3)


def load(spec: TaskSpec, root: Path) -> Task:
    return load_task(spec.name, root=root, kind=spec.kind, metric=spec.metric)


def written(root: Path, task: str, split: str) -> list[dict[str, Any]]:
    dataset, _, subset = task.rpartition("-")
    found: list[dict[str, Any]] = json.loads(
        (root / dataset / split / f"dataset-{subset}.json").read_text()
    )
    return found


@pytest.mark.parametrize("name", TASKS)
def test_every_task_reads_whole(name: str, tree: Path) -> None:
    task = load(SPECS[name], tree)
    check(task)
    opened = name in ("iconqa-2", "iconqa-3")
    assert (task.kind, task.metric) == (("open", "f1") if opened else ("choice", "accuracy"))
    for split, examples in (("train", task.train), ("test", task.test)):
        items = written(tree, name, split)
        assert len(examples) == len(items)
        for item, example in zip(items, examples, strict=True):
            names = item["image"] if isinstance(item["image"], list) else [item["image"]]
            paths = [image.source for image in example.images]
            assert paths == [tree / path.removeprefix("dataset/") for path in names]
            assert example.id == item["id"]
            answer = item["conversations"][1]["value"]
            assert example.turns[-1].text == answer
            if not opened:
                assert len(set(example.options)) == len(example.options) >= 2
                assert answer in example.options
                assert all(
                    option in item["conversations"][0]["value"] for option in example.options
                )


@pytest.mark.parametrize("place", ["DRAKE", "dataset", "data sets/x"])
def test_the_folder_may_have_any_name(place: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path / place, train=1, test=1, unseen=False)
    for name in ("VSR-0", "Fashion200K-2", "IRFL-1"):
        task = load(SPECS[name], root)
        check(task)
        assert all(image.source.is_relative_to(root) for e in task.train for image in e.images)


def test_nothing_is_missing_in_the_tree(tree: Path) -> None:
    assert how_to_get(TASKS, tree) == ""


def test_the_tree_is_the_same_every_time(tree: Path, tmp_path: Path) -> None:
    other = write_tree(tmp_path / "DRAKE", train=4, test=3)
    files = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert all((tree / path).read_bytes() == (other / path).read_bytes() for path in files)


def test_a_choice_task_without_options_is_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "DRAKE", train=1, test=1, unseen=False)
    path = root / "VSR/test/dataset-0.json"
    content = json.loads(path.read_text())
    content[0]["conversations"][0]["value"] = "<image>\nDescribe it."
    path.write_text(json.dumps(content))
    assert SPECS["VSR-0"].kind == "choice" and SPECS["iconqa-2"].kind == "open"
    with pytest.raises(DataError, match=r"task 'VSR-0' is of kind 'choice', but no test example"):
        check(load(SPECS["VSR-0"], root))
