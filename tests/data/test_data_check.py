"""Test the check before training: bad images and empty tasks are reported with their location."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_factory import text_task, write_drake, write_image

from fedmosaic.data.check import check, check_images
from fedmosaic.data.example import Example, Image, Task, Turn
from fedmosaic.data.records import FileExamples
from fedmosaic.data.registry import load_task
from fedmosaic.errors import DataError


@pytest.fixture
def task(tmp_path: Path) -> Task:
    write_drake(tmp_path, "VSR", 0)
    return load_task("VSR-0", root=tmp_path)


def test_good_data_passes(task: Task) -> None:
    check(task, text_task("words", 3))


def test_missing_image_names_file_item_and_field(task: Task, tmp_path: Path) -> None:
    (tmp_path / "VSR/images/test-1.png").unlink()
    place = f"{tmp_path}/VSR/test/dataset-0.json: item 1 (id 'test-1'), field 'image': image file "
    with pytest.raises(DataError, match=re.escape(place) + ".*test-1.png does not exist$"):
        check(task)


@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "flipped"])
def test_corrupt_png_is_found(task: Task, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "VSR/images/train-2.png"
    whole = path.read_bytes()
    flipped = whole[:100] + bytes([whole[100] ^ 255]) + whole[101:]
    path.write_bytes(
        {"text": b"no image", "empty": b"", "truncated": whole[:200], "flipped": flipped}[damage]
    )
    with pytest.raises(
        DataError, match=r"item 2 \(id 'train-2'\), field 'image': .*train-2.png is (corrupt|empty)"
    ):
        check(task)


@pytest.mark.parametrize("size", [16, 128])
def test_jpeg_cut_short_is_found_and_a_tail_of_other_bytes_is_not(
    tmp_path: Path, size: int
) -> None:
    path = write_image(tmp_path / "a.jpg", size=size)
    turns = (Turn("user", "<image>?"), Turn("assistant", "yes"))
    examples = [Example("e", turns, (Image(path),), ("yes", "no"))]
    task = Task("t", examples, examples)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0\0\0")
    check(task)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(
        DataError, match=r"task 't': train item 0 \(id 'e'\), field 'image': .*a.jpg is corrupt"
    ):
        check(task)


def test_the_first_bad_image_is_reported_and_the_others_counted_once(tmp_path: Path) -> None:
    write_drake(tmp_path, "VSR", 0)
    write_drake(tmp_path, "TQA", 0)
    tasks = [load_task(name, root=tmp_path) for name in ("VSR-0", "TQA-0", "VSR-0")]
    for name in ("VSR/images/train-3.png", "VSR/images/test-0.png", "TQA/images/train-0.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        DataError, match=r"item 3 \(id 'train-3'\).*\(2 more image files are bad\)$"
    ):
        check(*tasks)


def test_images_in_memory_are_left_alone() -> None:
    image = Image(np.zeros((4, 4, 3), np.uint8))
    examples = [
        Example("e", (Turn("user", "<image>?"), Turn("assistant", "yes")), (image,), ("yes", "no"))
    ]
    check(Task("t", examples, examples))


def test_rendered_examples_stay_unrendered() -> None:
    task = load_task("miniature/icon-0", train_limit=5, test_limit=5)
    asked = []

    class Counted(Sequence[Example]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Example:  # type: ignore[override]
            asked.append(index)
            return task.test[index]

    check(replace(task, train=Counted(), test=Counted()))
    assert asked == [0]


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_task(split: str) -> None:
    with pytest.raises(DataError, match=f"task 'words' has no {split} examples"):
        check(replace(text_task("words", 3), **{split: []}))


def test_choice_task_without_options() -> None:
    with pytest.raises(
        DataError, match="task 'words' is of kind 'choice', but no test example lists options"
    ):
        check(replace(text_task("words", 3), kind="choice"))


def test_one_test_example_without_options_is_named(task: Task) -> None:
    bare = FileExamples.build(
        task.test.locations, [*task.test[:2], replace(task.test[2], options=())]
    )
    with pytest.raises(
        DataError,
        match=r"test/dataset-0.json: item 2 \(id 'test-2'\), field 'options': .* 1 of its 3 test",
    ):
        check(replace(task, test=bare))
    check(replace(task, test=bare, kind="open", metric="f1"))


def test_images_of_other_examples_are_checked_too(task: Task, tmp_path: Path) -> None:
    (tmp_path / "VSR/images/train-1.png").write_bytes(b"no image")
    with pytest.raises(
        DataError,
        match=r"train/dataset-0.json: item 1 \(id 'train-1'\), field 'image': .* is corrupt",
    ):
        check_images({"public": task.train})
    with pytest.raises(
        DataError, match=r"^public item 1 \(id 'train-1'\), field 'image': .* is corrupt"
    ):
        check_images({"public": list(task.train)})
