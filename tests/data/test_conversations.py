"""Test the reader of LLaVA-style files: what it accepts, and the errors about the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from data_factory import item, write_image, write_json

from fedmosaic.data import read_examples
from fedmosaic.data.records import notes_of
from fedmosaic.errors import DataError


def read_one(tmp_path: Path, record: dict[str, Any], **options: Any) -> Any:
    return read_examples(write_json(tmp_path / "set.json", [record]), **options)[0]


def test_reads_images_turns_and_options(tmp_path: Path) -> None:
    first, second = write_image(tmp_path / "img/a.png", 1), write_image(tmp_path / "img/b.png", 2)
    record = item(
        "<image> or <image>? Choice list:[left, right]", "right", ["img/a.png", "img/b.png"], id=7
    )
    example = read_one(tmp_path, record)
    assert example.id == "7"
    assert [image.source for image in example.images] == [first, second]
    assert example.question == "<image> or <image>? Choice list:[left, right]"
    assert (example.answer, example.options) == ("right", ("left", "right"))


def test_one_path_one_image_and_marks_put_in_front(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    assert read_one(tmp_path, item("What?", "A cat", "a.png")).question == "<image>\nWhat?"
    assert (
        read_one(tmp_path, item("What?", "A cat", ["a.png", "a.png"])).question
        == "<image><image>\nWhat?"
    )
    assert read_one(tmp_path, item("What?", "A cat")).question == "What?"


def test_marks_of_several_turns_count_together(tmp_path: Path) -> None:
    turns = ["<image> What?", "A cat.", "And <image>?", "A dog."]
    record = {
        "image": ["a.png", "b.png"],
        "conversations": [
            {"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)
        ],
    }
    example = read_one(tmp_path, record)
    assert [turn.role for turn in example.turns] == ["user", "assistant"] * 2
    assert [turn.text for turn in example.turns] == turns


def test_role_content_variant_with_parts_and_system_turn(tmp_path: Path) -> None:
    record = {
        "images": ["a.png"],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": "A cat"},
        ],
    }
    example = read_one(tmp_path, record)
    assert [(turn.role, turn.text) for turn in example.turns] == [
        ("system", "Be brief."),
        ("user", "<image>What?"),
        ("assistant", "A cat"),
    ]


def test_unmarked_images_go_before_the_first_question_not_the_system_turn(tmp_path: Path) -> None:
    turns = [("system", "a"), ("system", "b"), ("human", "c?"), ("gpt", "d")]
    record = {
        "image": ["a.png", "b.png"],
        "conversations": [{"from": speaker, "value": text} for speaker, text in turns],
    }
    example = read_one(tmp_path, record)
    assert [turn.text for turn in example.turns] == ["a\nb", "<image><image>\nc?", "d"]


def test_json_lines_and_ids(tmp_path: Path) -> None:
    path = write_json(tmp_path / "set.jsonl", [item("a?", "a"), item("b?", "b", id="bee")])
    assert [example.id for example in read_examples(path)] == ["0", "bee"]


def test_limits_take_the_first_or_a_seeded_sample(tmp_path: Path) -> None:
    path = write_json(tmp_path / "set.json", [item(f"{n}?", str(n)) for n in range(50)])
    assert [example.answer for example in read_examples(path, limit=3)] == ["0", "1", "2"]
    sample = read_examples(path, limit=10, seed=1)
    assert sample.positions == tuple(int(example.answer) for example in sample)
    assert list(sample.positions) == sorted(set(sample.positions)) and len(sample) == 10
    assert sample.positions == read_examples(path, limit=10, seed=1).positions
    assert sample.positions != read_examples(path, limit=10, seed=2).positions
    assert len(read_examples(path, limit=99)) == 50
    with pytest.raises(DataError, match="limit of 0"):
        read_examples(path, limit=0)


def test_image_paths_are_tried_in_the_order_of_the_roots_then_beside_the_file(
    tmp_path: Path,
) -> None:
    root, folder = tmp_path / "root", tmp_path / "root/VSR"
    path = write_json(folder / "train/dataset-0.json", [item("What?", "A cat", "a.png")])

    def found() -> Path:
        source = read_examples(path, roots=[root, folder])[0].images[0].source
        assert isinstance(source, Path)
        return source

    assert found() == root / "a.png"  # nowhere: named in the first place, for the check to report
    for place in (folder / "train/a.png", folder / "a.png", root / "a.png"):
        write_image(place)
        assert found() == place


@pytest.mark.parametrize("name", ["dataset/VSR/images/a.png", "VSR/images/a.png", "images/a.png"])
def test_an_image_path_may_repeat_folder_names(tmp_path: Path, name: str) -> None:
    root = tmp_path / "DRAKE"
    picture = write_image(root / "VSR/images/a.png")
    path = write_json(root / "VSR/train/dataset-0.json", [item("What?", "A cat", name)])
    assert read_examples(path, roots=[root, root / "VSR"])[0].images[0].source == picture


def test_shared_pictures_are_one_image(tmp_path: Path) -> None:
    examples = read_examples(
        write_json(tmp_path / "set.json", [item("a?", "a", "p.png"), item("b?", "b", "p.png")])
    )
    assert examples[0].images[0] is examples[1].images[0]


def test_explicit_options_are_taken_and_the_answer_written_as_its_option(tmp_path: Path) -> None:
    example = read_one(tmp_path, item("Which?", "dark red.", options=["red", "Dark red"]))
    assert (example.options, example.answer) == (("red", "Dark red"), "Dark red")
    assert read_one(tmp_path, item("How many?", "10", choices=[1, 10])).options == ("1", "10")


@pytest.mark.parametrize(
    ("record", "field", "message"),
    [
        (item("<image> <image>", "a", "p.png"), "image", "1 images, but 2 <image> marks"),
        (item("<image>", "a"), "conversations", "0 images, but 1 <image> marks"),
        (item("a?", "see <image>", "p.png"), "image", "user's turns only"),
        (item("a?", "a", 3), "image", "a path or a list of paths"),
        (item("a?", "a", ["p.png", None]), "image", "a path or a list of paths"),
        (item("a?", "", "p.png"), "conversations", "turn 1, an answer, is empty"),
        (item("a?", None, "p.png"), "conversations", "turn 1 has no text"),
        (
            item("a?", "c", options=["a", "b"]),
            "conversations",
            "'c' is none of the options 'a', 'b'",
        ),
        (item("a?", "c", options="a, b"), "conversations", "'c' is none of the options 'a', 'b'"),
        ({"image": "p.png"}, "output", "missing"),
        ({"conversations": []}, "conversations", "list of turns"),
        ({"conversations": ["hello"]}, "conversations", "turn 0 is a text, not an object"),
        (
            {"conversations": [{"from": "human", "value": "a?"}]},
            "conversations",
            "last turn must be the assistant's",
        ),
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "conversations", "must alternate"),
        ({"conversations": [{"from": "bob", "value": "a"}]}, "conversations", "no known speaker"),
        (
            {"conversations": [{"from": "system", "value": "a"}]},
            "conversations",
            "last turn must be the assistant's",
        ),
    ],
)
def test_errors_name_file_item_and_field(
    tmp_path: Path, record: dict[str, Any], field: str, message: str
) -> None:
    path = write_json(tmp_path / "set.json", [item("a?", "a"), {"id": "bad", **record}])
    expected = (
        re.escape(f"{path}: item 1 (id 'bad'), field '{field}': ") + ".*" + re.escape(message)
    )
    with pytest.raises(DataError, match=expected):
        read_examples(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("set.json", '[{"id": 1},\n {"id" 2}]', r"not valid JSON: .* \(line 2, column 8\)"),
        ("set.jsonl", '{"id": 1}\n{"id"\n', r"not valid JSON: .* \(line 2, "),
        ("set.json", "[]", "holds no items"),
        ("set.jsonl", "\n", "holds no items"),
        ("set.json", '{"a": 1}', "expected a list of items, found one object with the keys 'a'"),
        ("set.json", "[1]", "item 0: expected an object"),
    ],
)
def test_files_that_hold_no_items(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        read_examples(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        read_examples(tmp_path / "none.json")
    with pytest.raises(DataError, match="unknown kind of data file"):
        read_examples(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'["caf\xe9"]')
    with pytest.raises(DataError, match="not UTF-8"):
        read_examples(tmp_path / "latin.json")


def test_files_of_which_the_same_fields_are_not_used_share_a_note(tmp_path: Path) -> None:
    sets = [
        read_examples(write_json(tmp_path / f"{n}.json", [item("a?", "a", **{f"x{n % 2}": 1})] * n))
        for n in range(1, 6)
    ]
    assert notes_of(*sets, sets[0]) == (
        f"{tmp_path / '1.json'} and 2 more files: not used: 'x1'",
        f"{tmp_path / '2.json'} and 1 more file: not used: 'x0'",
    )
    assert notes_of(sets[1]) == (f"{tmp_path / '2.json'}: not used: 'x0' of 2 items",)
