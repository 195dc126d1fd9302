"""Test the readers of instruction data and plain text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from data_factory import item, write_json

from fedmosaic.data import read_examples
from fedmosaic.errors import DataError


@pytest.mark.parametrize(
    ("record", "question", "answer"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": " 3 "}, "Add.\n\n1 2", "3"),
        ({"instruction": "Say hi.", "input": "", "output": "hi"}, "Say hi.", "hi"),
        (
            {"instruction": "Who?", "context": "It was I.", "response": "You"},
            "Who?\n\nIt was I.",
            "You",
        ),
        ({"inputs": "¿Qué?", "targets": "Nada"}, "¿Qué?", "Nada"),
        (item("Why?", "Because."), "Why?", "Because."),
        ({"text": "Once upon a time."}, "", "Once upon a time."),
    ],
)
def test_item_forms(tmp_path: Path, record: dict[str, Any], question: str, answer: str) -> None:
    (example,) = read_examples(write_json(tmp_path / "set.jsonl", [record]))
    assert (example.question, example.answer, example.images) == (question, answer, ())


def test_options_of_an_instruction(tmp_path: Path) -> None:
    record = {"question": "Is it?", "answer": "Yes", "options": ["yes", "no"]}
    (example,) = read_examples(write_json(tmp_path / "set.json", [record]))
    assert (example.answer, example.options) == ("yes", ("yes", "no"))


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        ("one\ntwo\nthree", ["one", "two", "three"]),
        ("\ufeffone\n  \n two ", ["one", "two"]),
    ],
)
def test_plain_text(tmp_path: Path, content: str, texts: list[str]) -> None:
    path = tmp_path / "set.txt"
    path.write_text(content, encoding="utf-8")
    examples = read_examples(path)
    assert [example.answer for example in examples] == texts
    assert all(len(example.turns) == 1 for example in examples)
    assert [example.answer for example in read_examples(path, limit=1)] == texts[:1]


@pytest.mark.parametrize(
    ("record", "field", "message"),
    [
        ({}, "instruction", "missing"),
        ({"instruction": "Add."}, "output", "missing"),
        ({"instruction": "Add.", "output": " "}, "output", "not empty"),
        ({"instruction": True, "output": "a"}, "instruction", "write the text to learn"),
        ({"instruction": "Add.", "input": [1], "output": "a"}, "input", "expected text"),
        (
            {"instruction": "Is it?", "output": "c", "options": ["a", "b"]},
            "output",
            "'c' is none of the options",
        ),
        ({"text": ""}, "text", "not empty"),
        (item("<image>?", "a"), "conversations", "1 <image> marks"),
    ],
)
def test_errors_name_file_item_and_field(
    tmp_path: Path, record: dict[str, Any], field: str, message: str
) -> None:
    path = write_json(tmp_path / "set.json", [{"text": "fine"}, record])
    with pytest.raises(
        DataError, match=re.escape(f"{path}: item 1 (id '1'), field '{field}': ") + ".*" + message
    ):
        read_examples(path)


def test_empty_text_file(tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("\n\n")
    with pytest.raises(DataError, match="holds no text"):
        read_examples(tmp_path / "set.txt")


@pytest.mark.parametrize(
    ("answers", "note"),
    [
        (["red", "red", "blue"], "3 answers; the commonest is taken, 'red'"),
        (["red", "blue"], "2 answers; the first of the commonest is taken, 'red'"),
    ],
)
def test_which_of_several_answers_is_taken_is_said(
    tmp_path: Path, answers: list[str], note: str
) -> None:
    found = read_examples(
        write_json(tmp_path / "set.json", [{"question": "a?", "answers": answers}])
    )
    assert found[0].answer == "red" and note in found.notes[0]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("What is ![a kite](sky/kite.png)?", "sky/kite.png"),
        ("What is <img width=3 src='sky/kite.png'>?", "sky/kite.png"),
        ("What does a[1] (x.png) mean?", ""),
    ],
)
def test_a_picture_that_a_text_links_to_is_named(tmp_path: Path, text: str, named: str) -> None:
    found = read_examples(write_json(tmp_path / "set.json", [{"question": text, "answer": "b"}]))
    assert found[0].question == text
    assert [named in note for note in found.notes] == [True] * bool(named)
