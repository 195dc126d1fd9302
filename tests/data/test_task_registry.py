"""Test how tasks and public examples are found by name."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import PIL.Image
import pytest
from data_factory import item, write_drake, write_json

from fedmosaic.data import read_examples
from fedmosaic.data.check import check_images
from fedmosaic.data.registry import (
    PUBLIC_SOURCES,
    TASK_SOURCES,
    load_task,
    public_examples,
)
from fedmosaic.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_drake(tmp_path, "SEED-Bench-2", 0, prefix="dataset/")
    write_drake(tmp_path, "VSR", 1)
    items = [{"instruction": f"Say {n}.", "output": str(n)} for n in range(20)]
    write_json(tmp_path / "Fed-aya_topic/train/dataset-30.json", items)
    write_json(tmp_path / "Fed-aya_topic/test/dataset-30.json", items[:4])
    return tmp_path


def test_drake_layout(root: Path) -> None:
    task = load_task("SEED-Bench-2-0", root=root, group="qa")
    assert (task.name, task.family, task.group) == ("SEED-Bench-2-0", "SEED-Bench-2", "qa")
    assert (task.kind, task.metric) == ("choice", "accuracy")
    assert [example.id for example in task.train] == [f"train-{n}" for n in range(6)]
    assert [example.id for example in task.test] == [f"test-{n}" for n in range(3)]
    assert task.test[1].images[0].source == root / "SEED-Bench-2/images/test-1.png"
    assert (task.test[1].answer, task.test[1].options) == ("two", ("one", "two"))
    assert load_task("SEED-Bench-2/0", root=root).name == "SEED-Bench-2-0"


def test_text_in_drake_layout(root: Path) -> None:
    task = load_task("Fed-aya_topic-30", root=root)
    assert (task.kind, task.metric) == ("open", "rouge_l")
    assert task.train[7].question == "Say 7."
    given = load_task("Fed-aya_topic-30", root=root, metric="f1")
    assert (given.kind, given.metric) == ("open", "f1")


def test_open_questions_about_images_are_scored_by_f1(root: Path) -> None:
    for split in ("train", "test"):
        write_json(
            root / f"iconqa/{split}/dataset-2.json",
            [item("<image> How many?", "3", "VSR/images/test-0.png")],
        )
    assert load_task("iconqa-2", root=root).metric == "f1"
    assert load_task("iconqa-2", root=root, kind="choice").metric == "accuracy"


def test_limits_are_seeded_and_differ_between_splits(root: Path) -> None:
    def ids(seed: int) -> tuple[list[str], list[str]]:
        task = load_task("Fed-aya_topic-30", root=root, seed=seed, train_limit=8, test_limit=2)
        return [example.id for example in task.train], [example.id for example in task.test]

    assert ids(0) == ids(0) != ids(1)
    assert [len(part) for part in ids(0)] == [8, 2]


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (
            "VSR-0",
            r"unknown task 'VSR-0' \(looked for .*VSR/train/dataset-0.json\). Did you mean 'VSR-1'",
        ),
        ("SEED-Bench-0", "Did you mean 'SEED-Bench-2-0'"),
        ("VSR", "unknown task 'VSR'. Did you mean 'VSR-1'"),
        ("easy-vqa/shape-rad", "no task 'shape-rad'. Did you mean 'shape-red'"),
        (
            "VSR/train/dataset-2.json",
            "dataset-2.json does not exist. Did you mean 'dataset-1.json'",
        ),
    ],
)
def test_unknown_names_get_the_nearest(root: Path, ref: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_task(ref, root=root)


def test_missing_folders(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"task 'VSR-1': the folder .*nowhere does not exist; set data.root"
    ):
        load_task("VSR-1", root=root / "nowhere")
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="Other sources: miniature/<name>"):
        load_task("VSR-1", root=root / "empty")
    (root / "VSR/test/dataset-1.json").unlink()
    with pytest.raises(DataError, match=r"VSR/test/dataset-1\.json does not exist"):
        load_task("VSR-1", root=root)


def test_empty_split(root: Path) -> None:
    write_json(root / "VSR/test/dataset-1.json", [])
    with pytest.raises(DataError, match=r"VSR/test/dataset-1\.json holds no items"):
        load_task("VSR-1", root=root)


def test_a_file_with_its_test_file(root: Path) -> None:
    by_path = load_task("VSR/train/dataset-1.json", root=root)
    assert [example.id for example in by_path.test] == ["test-0", "test-1", "test-2"]
    assert by_path.train[0].images[0].source == root / "VSR/images/train-0.png"
    write_json(root / "mine/train.jsonl", [item("a?", "a")])
    write_json(root / "mine/test.jsonl", [item("b?", "b")])
    assert load_task("mine/train.jsonl", root=root).test[0].answer == "b"
    assert load_task(str(root / "mine/train.jsonl")).test[0].answer == "b"


def test_a_file_alone_gives_up_a_fifth_for_testing(root: Path) -> None:
    write_json(root / "mine.json", [item(f"{n}?", str(n)) for n in range(20)])
    task = load_task("mine.json", root=root)
    train, test = ({example.answer for example in part} for part in (task.train, task.test))
    assert (len(train), len(test)) == (16, 4) and not train & test
    assert {e.answer for e in load_task("mine.json", root=root, seed=1).test} != test
    small = load_task("mine.json", root=root, train_limit=5)
    assert len(small.train) == 5 and {example.answer for example in small.test} == test
    write_json(root / "one.json", [item("a?", "a")])
    with pytest.raises(DataError, match="one item"):
        load_task("one.json", root=root)


def test_miniature_tasks_carry_the_name_they_are_asked_by() -> None:
    task = load_task("miniature/icon-0", train_limit=2, test_limit=3)
    assert (task.name, len(task.train), len(task.test)) == ("miniature/icon-0", 2, 3)
    assert len(public_examples("miniature/public", 4, seed=1)) == 4
    with pytest.raises(DataError, match="Did you mean 'icon-"):
        load_task("miniature/icon-9")


def test_a_source_is_imported_when_one_of_its_tasks_is_loaded() -> None:
    code = (
        "import sys; from fedmosaic.data import load_task; "
        "wanted = 'fedmosaic.miniature.benchmark'; before = wanted in sys.modules; "
        "task = load_task('miniature/icon-0'); "
        "print(before, wanted in sys.modules, task.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "miniature/icon-0"]


def test_every_entry_of_the_tables_names_a_function() -> None:
    for path in (*TASK_SOURCES.values(), *PUBLIC_SOURCES.values()):
        module, _, name = path.partition(":")
        assert callable(getattr(import_module(module), name)), path


def test_public_examples(root: Path) -> None:
    path = root / "public.json"
    write_json(path, [item(f"{n}?", str(n)) for n in range(30)])
    some = public_examples("public.json", 5, seed=3, root=root)
    assert [e.id for e in some] == [e.id for e in public_examples(str(path), 5, seed=3)]
    assert [e.id for e in some] != [e.id for e in public_examples(str(path), 5, seed=4)]
    assert len(public_examples("public.json", 99, root=root)) == 30
    assert len(public_examples("VSR-1", 4, root=root)) == 4
    (root / "public.txt").write_text("one\ntwo\n")
    assert len(public_examples("public.txt", 9, root=root)) == 2
    with pytest.raises(DataError, match=r"does not exist. Did you mean 'public.(json|txt)'"):
        public_examples("publik.json", 5, root=root)


@pytest.mark.parametrize("first", [0, 1])
def test_a_file_may_mix_kinds_of_items_in_any_order(root: Path, first: int) -> None:
    """Images of all of them start from the data folder."""
    (root / "pictures").mkdir()
    (root / "files").mkdir()
    PIL.Image.new("RGB", (4, 4)).save(root / "pictures" / "a.png")
    shown = {**item("<image>\na?", "a"), "image": "pictures/a.png"}
    items = [shown, {"instruction": "b", "output": "c"}]
    path = write_json(root / "files" / "set.json", [items[first], items[1 - first]])
    found = read_examples(path, roots=[root])
    check_images({"set": found})
    assert [found[first].question, found[1 - first].question] == ["<image>\na?", "b"]


def test_items_without_known_fields_name_what_an_item_needs(tmp_path: Path) -> None:
    path = write_json(tmp_path / "set.json", [item("a?", "a"), {"note": "b"}])
    with pytest.raises(DataError, match=re.escape("item 1 (id '1'), field 'instruction': missing")):
        read_examples(path)
