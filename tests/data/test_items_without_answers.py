"""Test that items to answer are read with and without their answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.data.reading.unanswered import read_inputs
from fedmosaic.errors import DataError

ASKED = {"from": "human", "value": "Which colour? Choice list:[red, blue]"}
PARTS = {"role": "user", "content": "Which colour?"}


def read(folder: Path, *items: Any) -> Any:
    (folder / "items.json").write_text(json.dumps(items))
    return read_inputs(folder / "items.json")


@pytest.mark.parametrize(
    ("item", "options"),
    [
        ({"question": "Which colour?", "options": ["red", "blue"]}, ("red", "blue")),
        ({"question": "Which colour?", "A": "red", "B": "blue", "answer": ""}, ("red", "blue")),
        ({"question": "Which colour?"}, ()),
        ({"conversations": [ASKED]}, ()),
        ({"messages": [PARTS], "options": ["red", "blue"]}, ("red", "blue")),
    ],
)
def test_an_item_may_lack_its_answer(tmp_path: Path, item: Any, options: tuple[str, ...]) -> None:
    found = read(tmp_path, item)
    assert found.answered == (False,)
    (example,) = found.examples
    assert example.options == options
    assert example.question.startswith("Which colour?")
    assert [turn.role for turn in example.turns] == ["user", "assistant"]
    assert not found.notes


def test_answers_that_are_there_are_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"question": "Which colour?", "options": ["red", "blue"], "answer": "B", "rest": 1},
        {"conversations": [ASKED, {"from": "gpt", "value": "blue"}]},
        {"question": "Why?"},
    )
    assert found.answered == (True, True, False)
    assert [example.answer for example in found.examples[:2]] == ["blue", "blue"]
    assert any("'rest'" in note for note in found.notes)


def test_a_malformed_item_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"items\.json: item 1 \(id '1'\).*'prompt'|missing"):
        read(tmp_path, {"question": "Why?"}, {"options": ["a", "b"]})
