"""Test tables and folders: CSV, Parquet, saved data sets, image folders, and test files beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_factory import write_image, write_json

from fedmosaic.data import check, load_task, read_examples
from fedmosaic.data.records import notes_of
from fedmosaic.data.splits import files_of_folder, files_of_path
from fedmosaic.errors import DataError

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def features(**names: list[str]) -> dict[str, str]:
    """Return the metadata by which ``datasets`` describes classes."""
    described = {name: {"names": each, "_type": "ClassLabel"} for name, each in names.items()}
    return {"huggingface": json.dumps({"info": {"features": described}})}


def pictures_table(folder: Path, count: int = 3) -> pa.Table:
    content = [write_image(folder / f"{n}.png", n).read_bytes() for n in range(count)]
    table = pa.table(
        {
            "image": pa.array([{"bytes": each, "path": None} for each in content], PICTURE),
            "label": pa.array([n % 2 for n in range(count)]),
        }
    )
    return table.replace_schema_metadata(features(label=["cat", "dog"]))


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"{n}?", "answer": f"it is {n}"} for n in range(start, start + count)]


def test_classes_of_pictures_are_options_with_their_names(tmp_path: Path) -> None:
    pq.write_table(pictures_table(tmp_path), tmp_path / "set.parquet", row_group_size=2)
    found = read_examples(tmp_path / "set.parquet")
    assert [e.answer for e in found] == ["cat", "dog", "cat"]
    assert all(e.options == ("cat", "dog") and e.question == "<image>" for e in found)
    alike = read_examples(
        write_json(tmp_path / "set.json", [{"image": f"{n}.png", "caption": "c"} for n in range(3)])
    )
    assert [e.images[0].key for e in found] == [e.images[0].key for e in alike]


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "set.json", [{"text": "Fine film", "label": 1}])
    with pytest.raises(DataError, match=r"item 0 .*field 'label'.* class whose name is not there"):
        read_examples(path)
    named = write_json(tmp_path / "named.json", [{"text": "Fine film", "label": "good"}])
    assert [(e.question, e.answer) for e in read_examples(named)] == [("Fine film", "good")]


def saved(folder: Path, table: pa.Table) -> Path:
    """Write a folder as ``datasets.Dataset.save_to_disk`` does."""
    folder.mkdir(parents=True)
    name = "data-00000-of-00001.arrow"
    with pa.ipc.new_stream(folder / name, table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    return folder


def test_saved_data_sets(tmp_path: Path) -> None:
    one = saved(tmp_path / "one", pictures_table(tmp_path, 5))
    assert [e.answer for e in read_examples(one)] == ["cat", "dog", "cat", "dog", "cat"]
    check(load_task("one", root=tmp_path))
    for split, count in (("train", 4), ("test", 2)):
        saved(tmp_path / "both" / split, pictures_table(tmp_path, count))
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    task = load_task("both", root=tmp_path)
    assert (len(task.train), len(task.test), task.kind) == (4, 2, "choice")


def test_shards_of_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for split, shards in (("train", 2), ("validation", 1)):
        for number in range(shards):
            table = pa.Table.from_pylist(rows(3, 3 * number))
            name = f"{split}-{number:05}-of-{shards:05}.parquet"
            pq.write_table(table, folder / "data" / name)
    task = load_task("set", root=tmp_path)
    assert [e.question for e in task.train] == [f"{n}?" for n in range(6)]
    assert len(task.test) == 3 and "used for testing" in "".join(notes_of(task.train))
    assert task.train.locations[4].path.name == "train-00001-of-00002.parquet"  # type: ignore[attr-defined]
    assert task.train.locations[4].index == 1  # type: ignore[attr-defined]


def test_image_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "set/train/a.png")
    write_image(tmp_path / "set/train/b.png")
    lines = [{"file_name": name, "text": f"picture {name}"} for name in ("a.png", "b.png")]
    write_json(tmp_path / "set/train/metadata.jsonl", lines)
    task = load_task("set", root=tmp_path)
    check(task)
    assert {e.question for e in (*task.train, *task.test)} == {"<image>"}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.json", "test.json"),
        ("train.jsonl", "test.csv"),
        ("Train.json", "TEST.jsonl"),
        ("rivers-train.json", "rivers-test.json"),
        ("train_2024.json", "test_2024.json"),
        ("trainRivers_train.json", "trainRivers_test.json"),
        ("train/part.json", "test/part.jsonl"),
        ("train/rivers.json", "Test/rivers.json"),
        ("train.json", "eval.json"),
    ],
)
def test_a_test_file_under_any_usual_name(tmp_path: Path, train: str, test: str) -> None:
    for name in (train, test):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_of_path(tmp_path / train).test == (tmp_path / test,)


@pytest.mark.parametrize("other", ["tests.json", "test.md", "strain.json", "contest.json"])
def test_other_files_are_no_test_files(tmp_path: Path, other: str) -> None:
    for name in ("train.json", other):
        (tmp_path / name).touch()
    assert files_of_path(tmp_path / "train.json").test == ()
    assert files_of_path(tmp_path / other).test == ()


def test_a_validation_file_is_used_or_named(tmp_path: Path) -> None:
    for name in ("train.json", "val.json"):
        (tmp_path / name).touch()
    found = files_of_path(tmp_path / "train.json")
    assert found.test == (tmp_path / "val.json",) and "val.json" in found.notes[0]
    (tmp_path / "test.json").touch()
    found = files_of_path(tmp_path / "train.json")
    assert found.test == (tmp_path / "test.json",) and "val.json is not used" in found.notes[0]


def test_several_test_files_are_refused(tmp_path: Path) -> None:
    for name in ("train.json", "test.json", "test.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"several files may hold its test items: .*test\.json, .*"):
        files_of_path(tmp_path / "train.json")
    with pytest.raises(DataError, match="several files may hold the test items"):
        files_of_folder(tmp_path)


def test_a_folder_without_training_data(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    with pytest.raises(DataError, match=r"no training data found; .* it holds notes\.md"):
        files_of_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\na?,b,c\n", "item 0, which ends in line 2, has 3 cells for 2 columns"),
        ("question,answer,answer\na?,b,c\n", "two columns have the name 'answer'"),
        ('question,answer\n"a?,b\n', "not valid CSV"),
        ("question,answer\n", "holds no items"),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / "set.csv")


def test_tables_of_letters_in_columns(tmp_path: Path) -> None:
    """As MMBench has them: one column for each option, tabs between the cells."""
    (tmp_path / "set.tsv").write_text(
        "index\tquestion\tA\tB\tC\tanswer\n7\tWhich?\tred\tblue\t\tB\n"
    )
    (example,) = read_examples(tmp_path / "set.tsv")
    assert (example.id, example.options, example.answer) == ("7", ("red", "blue"), "blue")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "set.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(DataError, match=r"set\.parquet is not a readable Parquet file"):
        read_examples(tmp_path / "set.parquet")
    with pytest.raises(DataError, match=r"none\.parquet does not exist"):
        read_examples(tmp_path / "none.parquet")
