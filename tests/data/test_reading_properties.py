"""Test that an item means the same in every format, and that no field of it disappears unsaid."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_factory import write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedmosaic
from fedmosaic.errors import DataError

Item = dict[str, Any]
Write = Callable[[Path, Item], Path]

# Letters of several scripts, digits and signs; no marks of images or options, no line ends.
LETTERS = st.sampled_from("abcdefgh ÄéßжΩ東京강हिไทย0123456789.,;'\"-!?/%&()")
WORDS = st.text(LETTERS, min_size=1, max_size=30).map(str.strip).filter(lambda text: text != "")
PROSE = WORDS.map(lambda text: f"Say {text} now")
ANSWERS = WORDS.map(lambda text: f"It says {text} here")
ITEMS = st.fixed_dictionaries(
    {
        "question": PROSE,
        "answer": ANSWERS,
        "images": st.lists(st.sampled_from(["a.png", "b.png"]), max_size=3),
        "system": st.none() | PROSE,
        "history": st.lists(st.tuples(PROSE, ANSWERS), max_size=2),
    }
)
COMMON = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def turns_of(item: Item, mark: str = "") -> list[tuple[str, str]]:
    """Return speakers and texts; the mark of the images stands before the first question."""
    pairs = [*item["history"], (item["question"], item["answer"])]
    turns = [turn for q, a in pairs for turn in (("user", q), ("assistant", a))]
    turns[0] = ("user", mark + turns[0][1])
    return [("system", item["system"])] * (item["system"] is not None) + turns


def save(path: Path, records: list[Item]) -> Path:
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    text = "\n".join(lines) if path.suffix == ".jsonl" else f"[{', '.join(lines)}]"
    path.write_text(text, encoding="utf-8")
    return path


def llava(folder: Path, item: Item) -> Path:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    mark = "<image>" * len(item["images"]) + "\n" * bool(item["images"])
    turns = [{"from": names[role], "value": text} for role, text in turns_of(item, mark)]
    return save(folder / "llava.json", [{"image": item["images"], "conversations": turns}])


def unmarked_lines(folder: Path, item: Item) -> Path:
    turns = [{"role": role, "content": text} for role, text in turns_of(item)]
    return save(folder / "lines.jsonl", [{"messages": turns, "images": item["images"]}])


def parts(folder: Path, item: Item) -> Path:
    turns: list[Item] = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in turns_of(item, "\n" * bool(item["images"]))
    ]
    first = next(turn for turn in turns if turn["role"] == "user")
    first["content"] = [
        *({"type": "image", "image": name} for name in item["images"]),
        *first["content"],
    ]
    return save(folder / "parts.json", [{"messages": turns}])


def alpaca(folder: Path, item: Item) -> Path:
    record = {
        "instruction": item["question"],
        "input": "",
        "output": item["answer"],
        "images": item["images"],
        "system": item["system"],
        "history": item["history"],
    }
    return save(folder / "alpaca.json", [record])


def table(folder: Path, item: Item) -> Path:
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["images", "query", "response", "system", "history"])
        lists = [json.dumps(item[name], ensure_ascii=False) for name in ("images", "history")]
        texts = [item["question"], item["answer"], item["system"] or ""]
        writer.writerow([lists[0], *texts, lists[1]])
    return path


def parquet(folder: Path, item: Item) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [{"bytes": (folder / name).read_bytes(), "path": None} for name in item["images"]]
    columns: Item = {
        "images": pa.array(
            [pictures], pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        ),
        "prompt": pa.array([item["question"]]),
        "completion": pa.array([item["answer"]]),
        "system": pa.array([item["system"]], pa.string()),
        "history": pa.array(
            [[list(pair) for pair in item["history"]]], pa.list_(pa.list_(pa.string()))
        ),
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    return folder / "rows.parquet"


def columns(folder: Path, item: Item) -> Path:
    record = {
        "query": item["question"],
        "response": item["answer"],
        "images": item["images"],
        "system": item["system"],
        "history": item["history"],
    }
    (folder / "columns.json").write_text(
        json.dumps({name: {"0": value} for name, value in record.items()}), encoding="utf-8"
    )
    return folder / "columns.json"


def inline(folder: Path, item: Item) -> Path:
    mark = "".join(f"<img>{name}</img>" for name in item["images"]) + "\n" * bool(item["images"])
    turns = [{"role": role, "content": text} for role, text in turns_of(item, mark)]
    return save(folder / "inline.json", [{"messages": turns}])


FORMATS: list[Write] = [llava, unmarked_lines, parts, alpaca, table, parquet, columns, inline]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("formats")
    write_image(place / "a.png", 1)
    write_image(place / "b.png", 2, size=24)
    return place


def line(path: Path) -> Item:
    (item,) = fedmosaic.show_data(path, root=path.parent).items
    shown = item.to_json()
    for name in ("file", "id"):
        del shown[name]
    for image in shown["images"]:
        del image["path"]
    return shown


@COMMON
@given(ITEMS)
def test_an_item_means_the_same_in_every_format(folder: Path, item: Item) -> None:
    lines = {write.__name__: line(write(folder, item)) for write in FORMATS}
    expected = lines["llava"]
    assert len(expected["turns"]) == 2 * len(item["history"]) + 2 + (item["system"] is not None)
    assert expected["turns"][-1]["text"] == item["answer"]
    for name, found in lines.items():
        assert found == expected, name


NAMES = st.sampled_from(
    [
        *("source", "category", "width", "note", "image2", "img", "picture", "video", "audio"),
        *("tools", "system", "history", "chosen", "loss_mask", "weight", "context", "answer"),
        *("label", "choices", "question", "text", "caption", "hint", "url", "messages", "Image"),
        *("imagePath", "file_name", "reasoning", "documents", "extra_image", "thumbnail"),
        *("image_id", "img_url", "definition", "article", "choice_a", "option1", "A", "texts"),
        *("label ", "hint\u200b", "answers", "questions", "objects", "role", "mask", "contents"),
    ]
)
VALUES = st.sampled_from(
    ["a.png", "some words", "user", 3, 0.5, ["x", "y"], [{"k": "v"}], {"k": "v"}, True]
)


@COMMON
@given(NAMES, VALUES, st.sampled_from(["conversations", "row", "caption", "text"]))
def test_no_field_disappears_unsaid(folder: Path, name: str, value: Any, form: str) -> None:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat"}]
    forms: dict[str, Item] = {
        "conversations": {"conversations": turns},
        "row": {"query": "What?", "output": "A cat"},
        "caption": {"image": "a.png", "caption": "A cat"},
        "text": {"text": "A cat sat"},
    }
    plain = forms[form]
    path = save(folder / "extra.json", [{**plain, name: value}])
    before = fedmosaic.show_data(save(folder / "plain.json", [plain]), root=folder).items[0]
    try:
        found = fedmosaic.show_data(path, root=folder)
    except DataError as error:
        assert str(path) in str(error) and "item 0" in str(error)
        assert any(repr(known) in str(error) for known in (name, *plain))
        return
    used = found.items[0].to_json() | {"file": ""} != before.to_json() | {"file": ""}
    noted = any(repr(name) in note for note in found.notes)
    assert used or noted or value in plain.values(), found.notes


NOUNS = st.lists(
    st.sampled_from(
        ["oak", "red kite", "12 km", "Ω value", "東京", "x = 2", "Größe", "two, or so"]
    ),
    min_size=2,
    max_size=5,
    unique=True,
)


def choice_forms(options: list[str], place: int) -> dict[str, Item]:
    """Return one question of which an option is right, in the usual forms."""
    letters = "ABCDE"[: len(options)]
    asked = {"question": "Which of them?"}
    return {
        "text": {**asked, "options": options, "answer": options[place]},
        "letter": {**asked, "choices": options, "answer": letters[place]},
        "place": {**asked, "choices": options, "answer": place},
        "MedQA": {
            "query": asked["question"],
            "options": dict(zip(letters, options, strict=True)),
            "answer": options[place],
            "answer_idx": letters[place],
        },
        "ARC": {
            **asked,
            "choices": {"text": options, "label": list(letters)},
            "answerKey": letters[place],
        },
        "columns": {**asked, **dict(zip(letters, options, strict=True)), "answer": letters[place]},
        "SEED-Bench": {
            **asked,
            **{f"choice_{letter.lower()}": o for letter, o in zip(letters, options, strict=True)},
            "answer": letters[place],
        },
        "numbered": {
            **asked,
            **{f"option{number}": option for number, option in enumerate(options, start=1)},
            "answer": str(place + 1),
        },
        "A-OKVQA": {**asked, "choices": options, "correct_choice_idx": place},
    }


@COMMON
@given(NOUNS, st.data())
def test_a_choice_means_the_same_in_every_form(
    folder: Path, options: list[str], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(options) - 1))
    for name, record in choice_forms(options, place).items():
        found = line(save(folder / "choice.json", [record]))
        assert (found["options"], found["answer"]) == (options, options[place]), name
        assert found["turns"][-1]["text"] == options[place], name


@COMMON
@given(
    st.lists(st.booleans(), max_size=3),
    st.sampled_from(["loss", "weight", "train"]),
    st.booleans(),
    st.sampled_from(["set.json", "set.jsonl", "set.parquet"]),
)
def test_masks_of_earlier_answers_are_heeded_in_every_format(
    folder: Path, learned: list[bool], key: str, numbers: bool, name: str
) -> None:
    turns: list[Item] = []
    for number, learn in enumerate([*learned, True]):
        mask = int(learn) if numbers else learn
        turns += [
            {"role": "user", "content": f"q{number}", key: None},
            {"role": "assistant", "content": f"a{number}", key: mask},
        ]
    path = folder / name
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([{"messages": turns}]), path)
    else:
        save(path, [{"messages": turns}])
    assert line(path)["learned"] == [*learned, True]
