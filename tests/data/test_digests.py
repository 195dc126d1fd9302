"""Digest items, find what changed between two sets, and number their items anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedmosaic.data import Example, Image, Turn
from fedmosaic.data.digests import DataChange, ItemDigests, difference, digest_items, moved
from fedmosaic.data.example import LazyExamples
from fedmosaic.data.records import FileExamples, RecordLocation


def example(question: str, answer: str = "a", shade: int | None = None) -> Example:
    pixels = [] if shade is None else [Image(np.full((2, 2, 3), shade, np.uint8))]
    turns = (Turn("user", "<image>" * len(pixels) + question), Turn("assistant", answer))
    return Example(f"id of {question} {shade}", turns, tuple(pixels), ("a", "b"))


def in_file(name: str, examples: Sequence[Example], first: int = 0) -> FileExamples:
    locations = [RecordLocation(Path(name), first + k, str(k)) for k in range(len(examples))]
    return FileExamples.build(locations, examples)


def digests(train: Sequence[Example], test: Sequence[Example] = ()) -> ItemDigests:
    found = digest_items("set", train, test)
    assert found is not None
    return found


def changed(before: ItemDigests, now: ItemDigests) -> DataChange:
    found = difference("set", before, now)
    assert found is not None
    return found


QUESTIONS = [example(word) for word in ("one", "two", "three", "four", "five")]


def test_ids_and_files_do_not_count() -> None:
    before = digests(in_file("a.json", QUESTIONS))
    other_ids = [Example("x", e.turns, e.images, e.options) for e in QUESTIONS]
    assert difference("set", before, digests(in_file("moved/b.jsonl", other_ids))) is None


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (example("three!", "a", 1), "question"),
        (example("three", "b", 1), "answer"),
        (example("three", "a", 2), "picture"),
        (Example("x", example("three", "a", 1).turns, example("", "a", 1).images), "options"),
        (example("three!", "b", 1), "question and answer"),
    ],
)
def test_what_changed_of_an_item_is_named(other: Example, part: str) -> None:
    rows = example("three", "a", 1), other
    before, now = (digests(in_file("a.json", [*QUESTIONS, row])) for row in rows)
    assert changed(before, now) == DataChange("set", "a.json", f"item 5: {part} changed", 1)


def test_items_of_several_files_are_named_by_their_own_file() -> None:
    files = [in_file("a.json", QUESTIONS[:2]), in_file("b.json", QUESTIONS[2:])]

    def joined(parts: Sequence[FileExamples]) -> FileExamples:
        return FileExamples.build(
            [location for part in parts for location in part.locations],
            [row for part in parts for row in part],
        )

    before = digests(joined(files))
    files[1] = in_file("b.json", [QUESTIONS[2], example("four", "b"), QUESTIONS[4]])
    assert changed(before, digests(joined(files))).file == "b.json"
    assert changed(before, digests(joined(files))).what == "item 1: answer changed"
    files[1] = in_file("b.json", [*QUESTIONS[2:], example("six")])
    assert changed(before, digests(joined(files))).what == "item 3 is new"


def test_equal_items_are_counted() -> None:
    before = digests(in_file("a.json", [*QUESTIONS, QUESTIONS[0]]))
    change = changed(before, digests(in_file("a.json", QUESTIONS)))
    assert (change.what, change.items) == ("item 0 is gone", 1)


def test_items_that_moved_from_training_to_testing_are_counted() -> None:
    before = digests(in_file("a.json", QUESTIONS[:4]), in_file("a.json", QUESTIONS[4:], 4))
    test = in_file("b.json", [QUESTIONS[0], example("six")])
    change = changed(before, digests(in_file("a.json", QUESTIONS[1:4]), test))
    assert change.leaked == 1
    swapped = digests(in_file("a.json", QUESTIONS[:3]), in_file("a.json", QUESTIONS[3:], 3))
    assert changed(before, swapped).leaked == 1


def test_items_are_numbered_anew_by_content() -> None:
    before = digests([*QUESTIONS, example("six")])
    now = digests([QUESTIONS[3], QUESTIONS[0], example("three", "b"), example("new"), QUESTIONS[4]])
    assert moved(before, now).tolist() == [1, -1, 2, 0, 4, -1]


def test_an_equal_item_is_given_one_number_only() -> None:
    before = digests([QUESTIONS[0], QUESTIONS[0], QUESTIONS[1]])
    assert moved(before, digests([QUESTIONS[1], QUESTIONS[0]])).tolist() == [1, -1, 0]


def test_what_is_made_on_access_is_not_made() -> None:
    def make(index: int) -> Example:
        raise AssertionError("an example was made")

    assert digest_items("set", LazyExamples(3, make)) is None
