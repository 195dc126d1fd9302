"""Test that the validation split, for every source, takes training examples and no test item."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_factory import item, text_task, write_drake, write_json

from fedmosaic.data import check, hold_out, load_task
from fedmosaic.data.example import Example, Task
from fedmosaic.data.records import FileExamples
from fedmosaic.errors import DataError


def ids(examples: object) -> list[str]:
    return [example.id for example in examples]  # type: ignore[attr-defined]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_drake(tmp_path, "VSR", 0, count=10)
    write_json(
        tmp_path / "single.json",
        [item(f"how many in {k}?", str(k), id=f"single-{k}") for k in range(20)],
    )
    return tmp_path


@pytest.mark.parametrize(
    "ref", ["miniature/stages-0", "VSR-0", "single.json", "easy-vqa/shape-red"]
)
def test_it_takes_a_fifth_of_the_training_examples_and_no_test_item(ref: str, root: Path) -> None:
    if ref.startswith("easy-vqa"):
        pytest.importorskip("easy_vqa")
    task = load_task(ref, root=root)
    held = hold_out(task, seed=7)
    assert sorted(ids(held.train) + ids(held.test)) == sorted(ids(task.train))
    assert len(held.test) == round(len(task.train) / 5)
    assert not set(ids(held.test)) & set(ids(task.test)) and not set(ids(held.train)) & set(
        ids(task.test)
    )
    assert (held.name, held.kind, held.metric) == (task.name, task.kind, task.metric)
    check(held)
    assert ids(hold_out(task, seed=7).test) == ids(held.test) != ids(hold_out(task, seed=8).test)


def test_a_file_without_test_file_has_other_test_items_under_another_data_seed(root: Path) -> None:
    """Show why a validation run must use the comparison's ``data.seed``."""
    one, two = (
        load_task("single.json", root=root, seed=0),
        load_task("single.json", root=root, seed=1),
    )
    assert set(ids(one.test)) & set(ids(two.train))


def test_examples_keep_their_place_and_are_not_rendered_before_they_are_used(root: Path) -> None:
    held = hold_out(load_task("VSR-0", root=root), seed=0)
    assert isinstance(held.test, FileExamples) and len(held.test.positions) == 2
    assert [f"train-{position}" for position in held.test.positions] == ids(held.test)

    class Rendered:
        def __init__(self, count: int) -> None:
            self.count, self.asked = count, 0

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, index: int) -> Example:
            self.asked += 1
            return text_task("x", 10).train[index]

    examples = Rendered(10)
    split = hold_out(Task("t", examples, examples), seed=0)  # type: ignore[arg-type]
    assert examples.asked == 0 and len(split.train) == 8
    assert ids(split.train[1:3]) == ids([split.train[1], split.train[2]])


def test_one_example_cannot_be_split() -> None:
    assert len(hold_out(text_task("two", 2), seed=0).test) == 1
    with pytest.raises(DataError, match="'one' has 1 training example"):
        hold_out(text_task("one", 1), seed=0)
