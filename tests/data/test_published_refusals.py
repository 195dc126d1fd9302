"""Test that data which cannot be learned as it is meant is refused, naming the field."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from data_factory import item, write_image, write_json

import fedmosaic
from fedmosaic.errors import DataError

Item = dict[str, Any]
QA = {"question": "q?", "answer": "a"}
ANSWER = {"role": "assistant", "content": "a"}


def _nested(levels: int) -> Any:
    return [_nested(levels - 1)] if levels else "x"


REFUSED: list[tuple[str, Item, str, str]] = [
    ("KTO's label", {"prompt": "q", "completion": "a", "label": False}, "label", "pairs of"),
    (
        "a last answer that is not learned",
        {
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a", "loss": False},
            ]
        },
        "messages",
        "end it with an answer that is learned",
    ),
    ("an answer in a turn that nobody sees", item("q", "\u200b"), "conversations", "is empty"),
    ("OpenAI's pairs", {"input": {}, "preferred_output": [{}]}, "preferred_output", "pairs of"),
    (
        "masks within an answer (Axolotl)",
        {
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a", "train_detail": [{"train": False}]},
            ]
        },
        "train_detail",
        "masks of parts",
    ),
    (
        "places of objects (ms-swift)",
        {**item("<image>find <ref-object>", "<bbox>", "a.png"), "objects": {"ref": ["dog"]}},
        "objects",
        "stands for <ref-object>",
    ),
    (
        "an instruction of the system as parts",
        {**QA, "systemInstruction": {"parts": []}},
        "systemInstruction",
        "expected text",
    ),
    ("one turn an item (OASST)", {"text": "Hi", "role": "prompter"}, "role", "one turn"),
    ("a picture by its number (VQAv2)", {**QA, "image_id": 458752}, "image_id", "not its file"),
    ("a picture by its number (GQA)", {**QA, "imageId": "n1"}, "imageId", "not its file"),
    ("a picture within an object", {**QA, "meta": {"x": {"image": "a.png"}}}, "meta", "'image'"),
    ("a caption without its picture", {"caption": "c", "width": 3}, "caption", "names no picture"),
    (
        "questions in a list",
        {"image": "a.png", "questions": ["q"], "answers": ["a"]},
        "questions",
        "could change",
    ),
    (
        "a sentence to judge (NLVR2)",
        {"image": "a.png", "sentence": "It is red", "label": "no"},
        "sentence",
        "could change",
    ),
    (
        "two pictures under own names",
        {**QA, "left_image": "a.png"},
        "left_image",
        "call it 'image'",
    ),
    (
        "a place among numbered columns",
        {"question": "q", "choice1": "x", "choice2": "y", "label": 1},
        "label",
        "from 0 or from 1",
    ),
    (
        "no answer (SQuAD 2)",
        {"question": "q", "answers": {"text": [], "answer_start": []}},
        "answers",
        "holds no answer",
    ),
    (
        "an answer that the others lack",
        {"question": "q", "answer": "x", "answers": ["y", "z"]},
        "answers",
        "does not hold 'answer'",
    ),
    (
        "a number without an end",
        {"question": "q", "answer": float("inf")},
        "answer",
        "is the number",
    ),
    (
        "an answer that nobody sees",
        {"question": "q", "answer": "\u200b\ufeff"},
        "answer",
        "not empty",
    ),
    ("lists in lists", {**QA, "x": _nested(150)}, "x", "within each other"),
    (
        "a mark without a picture",
        {"question": "<|image|> q", "answer": "a"},
        "question",
        "<|image|>",
    ),
    (
        "a numbered mark without a picture",
        {"question": "<image_1>?", "answer": "a"},
        "question",
        "<image_1>",
    ),
    (
        "a mark of InternLM without a picture",
        {"question": "<Image><ImageHere></Image>?", "answer": "a"},
        "question",
        "ImageHere",
    ),
    (
        "a mark in an answer",
        {"image": "a.png", "question": "q", "answer": "<|image|> x"},
        "image",
        "<|image|> stands in an answer",
    ),
    (
        "a mark in an option",
        {"image": "a.png", "question": "q", "options": ["<image 1>", "y"], "answer": "B"},
        "options",
        "pictures as options",
    ),
    (
        "a mark of a video",
        {"image": "a.png", "question": "<video>\n<image>", "answer": "a"},
        "image",
        "<video>",
    ),
    (
        "a picture in a part that is not read",
        {"contents": [{"role": "user", "parts": [{"inlineData": {"data": "x"}}]}]},
        "contents",
        "inlineData",
    ),
    ("a path that is none", {"image": "a\0.png", **QA}, "image", "neither a path nor"),
    ("a text that is no picture", {"image": "QUFB" * 2000, **QA}, "image", "neither a path nor"),
    (
        "two speakers of a turn",
        {"messages": [{"role": "user", "from": "gpt", "content": "q"}, {**ANSWER}]},
        "role",
        "turn 0 of 'messages' has 'from' too",
    ),
    (
        "two texts of a turn",
        {"messages": [{"role": "user", "content": "q"}, {**ANSWER, "value": "b"}]},
        "content",
        "turn 1 of 'messages' has 'value' too",
    ),
    (
        "pictures twice, in other places",
        {"image": "b.png", "question": "<img>a.png</img>q", "answer": "a"},
        "image",
        "one place",
    ),
]


@pytest.mark.parametrize(
    ("record", "field", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused_naming_file_item_and_field(
    tmp_path: Path, record: Item, field: str, message: str
) -> None:
    write_image(tmp_path / "a.png", 1)
    write_image(tmp_path / "b.png", 2)
    path = write_json(tmp_path / "set.json", [QA, record])
    start = re.escape(f"{path}: item 1 (id '1'), field {field!r}: ")
    with pytest.raises(DataError, match=rf"^{start}[^\n]*{re.escape(message)}[^\n]*$"):
        fedmosaic.show_data(path, root=tmp_path)


def test_a_speaker_may_be_named_twice_alike(tmp_path: Path) -> None:
    question = {"role": "user", "from": "human", "content": "q", "value": "q"}
    path = write_json(tmp_path / "set.json", [{"messages": [question, ANSWER]}])
    found = fedmosaic.show_data(path, root=tmp_path)
    assert [turn.text for turn in found.items[0].example.turns] == ["q", "a"]


def test_a_bad_picture_inside_the_file_is_located_in_one_place(tmp_path: Path) -> None:
    content = write_image(tmp_path / "a.png", 1).read_bytes()[:40]
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    path = write_json(tmp_path / "set.json", [{"image": uri, **QA}])
    place = re.escape(f"{path}: item 0 (id '0'), field 'image': ")
    with pytest.raises(DataError, match=rf"^{place}inline picture is corrupt[^:]*(: [^:]*)?$"):
        fedmosaic.show_data(path, root=tmp_path)
