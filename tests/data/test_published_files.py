"""Test that files are read as spreadsheets, pandas and other tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_factory import shown, write_image

import fedmosaic
from fedmosaic.errors import DataError

ROWS = [{"question": "q1", "answer": "a1"}, {"question": "q2", "answer": "a2"}]
READ = ["u:q1 | a:a1", "u:q2 | a:a2"]
COLUMNS = {"question": ["q1", "q2"], "answer": ["a1", "a2"]}

JSON_FORMS: dict[str, Any] = {
    "list": ROWS,
    "a list under a key": {"version": "1", "data": ROWS, "errors": []},
    "pandas, columns": {name: {"0": column[0], "1": column[1]} for name, column in COLUMNS.items()},
    "pandas, index": {"0": ROWS[0], "1": ROWS[1]},
    "pandas, split": {
        "columns": ["question", "answer"],
        "index": [0, 1],
        "data": [["q1", "a1"], ["q2", "a2"]],
    },
    "pandas, list": COLUMNS,
    "pandas, table": {"schema": {"fields": []}, "data": [{"index": 0, **ROWS[0]}, ROWS[1]]},
}


@pytest.mark.parametrize("content", JSON_FORMS.values(), ids=JSON_FORMS)
def test_forms_of_json(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    assert shown(path) == READ


def test_items_under_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "gqa.json"
    path.write_text(json.dumps({"n12": ROWS[0], "n7": ROWS[1]}))
    assert [entry.example.id for entry in fedmosaic.show_data(path).items] == ["n12", "n7"]


def test_one_item_alone(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    turns = [{"from": "human", "value": "q1"}, {"from": "gpt", "value": "a1"}]
    for content in (
        ROWS[0],
        {"conversations": turns},
        {**ROWS[0], "choices": [{"text": "a1"}, {"text": "b"}]},
    ):
        path.write_text(json.dumps(content))
        assert shown(path)[0].startswith("u:q1 | a:a1")


def test_captions_beside_their_images(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    path = tmp_path / "captions.json"
    content = {
        "images": [{"id": 3, "file_name": "a.png", "height": 16}],
        "annotations": [{"image_id": 3, "id": 5, "caption": "A dog"}],
    }
    path.write_text(json.dumps(content))
    assert shown(path) == ["u:<image> | a:A dog [16]"]
    content["annotations"][0]["image_id"] = 4
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="'annotations' 0 is no caption of one of the 'images'"):
        shown(path)


CSV_FORMS = {
    "Excel, semicolons and a byte-order mark": "\ufeffquestion;answer\r\nq1;a1\r\nq2;a2\r\n",
    "Excel, a line that names the separator": "sep=;\r\nquestion;answer\r\nq1;a1\r\nq2;a2\r\n",
    "empty columns and rows": "question,answer,,\nq1,a1,,\nq2,a2,,\n,,,\n",
    "cells beyond the columns, empty": "question,answer\nq1,a1,,\nq2,a2\n",
    "line ends of old Macs": "question,answer\rq1,a1\rq2,a2\r",
    "bars": "question|answer\nq1|a1\nq2|a2\n",
    "pandas, with its row numbers": ",question,answer\n0,q1,a1\n1,q2,a2\n",
    "not a number": "question,answer,hint\nq1,a1,nan\nq2,a2,NaN\n",
    "a comma in a name": '"answer","note, long",question\na1,x,q1\na2,y,q2\n',
}


@pytest.mark.parametrize("content", CSV_FORMS.values(), ids=CSV_FORMS)
def test_forms_of_csv(tmp_path: Path, content: str) -> None:
    path = tmp_path / "set.csv"
    path.write_bytes(content.encode())
    assert shown(path) == READ


def test_lists_in_cells(tmp_path: Path) -> None:
    for shade, name in enumerate(("a.png", "b.png")):
        write_image(tmp_path / name, shade, size=16 + shade)
    path = tmp_path / "set.csv"
    path.write_text(
        "question,images,options,answer\n"
        "q1,\"['a.png', 'b.png']\",\"['x', 'y']\",x\n"
        'q2,"[""a.png""]",,"[1, 2]"\n'
    )
    assert shown(path) == [
        "u:<image><image>\nq1 | a:x [16, 17] ['x', 'y'] -> x",
        "u:<image>\nq2 | a:[1, 2] [16]",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "question,answer\nq1\n", "item 0, which ends in line 2, has 1 cells for 2"),
        ("a.csv", "question,images,answer\nq,\"['a.png' 'b.png']\",a\n", "does not exist"),
        ("a.csv", ",question,\nx,q,y\n", "two columns without a name"),
        ("a.tsv", 'question\tanswer\n"x" is y\tb\n', "(line 2); put a cell that holds quotes"),
        (
            "a.json",
            '[{"question": "q", "answer": "a"},\n {"x": {"k": 1, "k": 2}}]',
            "of item 1 has",
        ),
        ("a.jsonl", '{"question": "q"}\n{"k": 1, "k": 2}\n', "of line 2 has the key 'k' twice"),
        ("a.json", '[{"answer": ' + "9" * 5000 + "}]", "is not usable JSON"),
        ("a.json", json.dumps({"train": ROWS, "test": ROWS}), "several keys: 'train', 'test'"),
        ("a.json", json.dumps([["q1", "a1"]]), "item 0: expected an object with fields"),
        ("a.json", json.dumps({"a": 1}), "expected a list of items, found one object"),
    ],
)
def test_errors_of_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError) as error:
        shown(path)
    assert str(path) in str(error.value) and message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_number_is_learned_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text('[{"question": "q", "answer": 1.50}, {"question": 7, "answer": 1e3}]')
    assert shown(path) == ["u:q | a:1.50", "u:7 | a:1e3"]


def test_pictures_in_folders_by_class(tmp_path: Path) -> None:
    for shade, name in enumerate(("cat/1.png", "cat/2.PNG", "dog/7.png")):
        write_image(tmp_path / "plain" / name, shade, size=16 + shade)
        write_image(tmp_path / "split/train" / name, shade, size=16 + shade)
    write_image(tmp_path / "split/test/owl/1.png")
    assert shown(tmp_path / "plain", tmp_path) == [
        "u:<image> | a:cat [16] ['cat', 'dog'] -> cat",
        "u:<image> | a:cat [17] ['cat', 'dog'] -> cat",
        "u:<image> | a:dog [18] ['cat', 'dog'] -> dog",
    ]
    found = fedmosaic.show_data(tmp_path / "split", root=tmp_path, split="test").items
    assert [(item.example.answer, item.example.options) for item in found] == [
        ("owl", ("cat", "dog", "owl"))
    ]
    (tmp_path / "plain/cat/notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt is no picture, but stands in a folder"):
        shown(tmp_path / "plain", tmp_path)


def test_notes_count_the_items_that_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps([{**row, "source": "x"} for row in ROWS]))
    assert fedmosaic.show_data(path, limit=1).notes == [f"{path}: not used: 'source' of 1 item"]
