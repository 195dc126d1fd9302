"""Test the easy-VQA tasks: a partition of the package's questions, the answer among options."""

from __future__ import annotations

import sys

import pytest

from fedmosaic.data import easy_vqa as module
from fedmosaic.data.check import check
from fedmosaic.data.easy_vqa import TASKS, load_easy_vqa, task_of
from fedmosaic.errors import DataError

package = pytest.importorskip("easy_vqa")


def test_every_question_is_in_exactly_one_task() -> None:
    assert len(set(TASKS)) == len(TASKS) == 35
    tasks = [load_easy_vqa(name) for name in TASKS]
    for split, questions in (
        ("train", package.get_train_questions()),
        ("test", package.get_test_questions()),
    ):
        ids = [example.id for task in tasks for example in getattr(task, split)]
        assert len(ids) == len(set(ids)) == len(questions[0])
        assert all(
            example.answer in example.options for task in tasks for example in getattr(task, split)
        )
    assert min(len(task.test) for task in tasks) >= 30


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("what shape is in the image?", "shape"),
        ("what is the teal shape?", "shape-teal"),
        ("what color is the shape?", "colour"),
        ("what is the color of the circle?", "colour-circle"),
        ("is there a red shape in the image?", "presence-red"),
        ("is a rectangle present?", "presence-rectangle"),
        ("is no blue shape present?", "absence-blue"),
        ("does the image not contain a triangle?", "absence-triangle"),
    ],
)
def test_task_of(question: str, name: str) -> None:
    assert task_of(question) == name


def test_unknown_question() -> None:
    with pytest.raises(DataError, match="fits no task"):
        task_of("is it raining?")


def test_prompt_options_and_sampling() -> None:
    task = load_easy_vqa("presence-red", train_limit=30, test_limit=10)
    assert (task.name, task.kind, task.group, len(task.train), len(task.test)) == (
        "easy-vqa/presence-red", "choice", "presence", 30, 10,
    )  # fmt: skip
    example = task.train[0]
    assert example.question.startswith("<image> ") and example.question.endswith(
        " Options: yes, no"
    )
    assert example.images[0].load().size == (64, 64)
    check(task)
    same, other = (load_easy_vqa("presence-red", train_limit=30, seed=seed) for seed in (0, 1))
    ids = [[example.id for example in one.train] for one in (task, same, other)]
    assert ids[0] == ids[1] != ids[2]


def test_training_and_test_images_are_apart() -> None:
    task = load_easy_vqa("shape")
    train, test = ({str(e.images[0].source) for e in part} for part in (task.train, task.test))
    assert train and test and not train & test


def test_missing_package_tells_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    module._examples_by_task.cache_clear()
    with pytest.raises(DataError, match="pip install easy-vqa"):
        load_easy_vqa("shape")
