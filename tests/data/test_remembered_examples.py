"""Test that the examples of a large file are remembered, and never longer than they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_factory import item, write_image, write_json

from fedmosaic.data import read_examples
from fedmosaic.data.example import Example
from fedmosaic.data.reading import files, remembered
from fedmosaic.errors import DataError
from fedmosaic.files import cache_root


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "FEWEST_ITEMS", 3)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the items that a reader was given."""
    read, ids = files.ItemReader.read, []

    def count(self: Any, record: Any, location: Any) -> Any:
        ids.append(location.id)
        return read(self, record, location)

    monkeypatch.setattr(files.ItemReader, "read", count)
    return ids


def content(examples: Any) -> list[Any]:
    fields = ("id", "turns", "options", "choice", "spellings", "answer")
    return [
        (
            [getattr(example, name) for name in fields],
            [image.source for image in example.images],
            location,
        )
        for example, location in zip(examples, examples.locations, strict=True)
    ]


def write_set(folder: Path) -> Path:
    for name in ("a.png", "b.png"):
        write_image(folder / "images" / name)
    masked = item("Which?", "two", note="x")
    masked["conversations"] = [
        {"from": "human", "value": "Say."},
        {"from": "gpt", "value": "one", "loss": False},
        *masked["conversations"],
    ]
    items = [
        item("<image> <image>? Options: A. x B. y", "The answer is B.", ["a.png", "b.png"], id="p"),
        item("What?", "a cat", "a.png"),
        masked,
        item("How many?", "two", "b.png", options=["one", "two", "two"]),
    ]
    return write_json(folder / "set.json", items)


def read(path: Path) -> Any:
    return read_examples(path, roots=[path.parent, path.parent / "images"])


def test_a_remembered_file_is_what_was_read(tmp_path: Path, made: list[str]) -> None:
    path = write_set(tmp_path)
    first = read(path)
    assert len(made) == 4 and len(list((cache_root() / "examples").iterdir())) == 1
    second = read(path)
    assert len(made) == 4 and content(first) == content(second)
    assert first.notes == second.notes and "'note'" in first.notes[0]
    assert second[0].images[0] is second[1].images[0]
    some = read_examples(path, roots=[tmp_path, tmp_path / "images"], limit=2, seed=1)
    assert len(made) == 4 and len(some) == 2 and isinstance(some[0], Example)


def test_scanning_remembers_too(tmp_path: Path, made: list[str]) -> None:
    path = write_set(tmp_path)
    scanned = [found.example for found in files.Scan(path, roots=[tmp_path / "images"])]
    second = read_examples(path, roots=[tmp_path / "images"])
    assert len(made) == 4 and [e.id for e in scanned if e] == [e.id for e in second]


@pytest.mark.parametrize("change", ["content", "image gone", "image before", "folder", "damaged"])
def test_what_no_longer_holds_is_read_anew(tmp_path: Path, made: list[str], change: str) -> None:
    path = write_set(tmp_path)
    before = read(path)
    roots = [tmp_path, tmp_path / "images"]
    if change == "content":
        path.write_text(path.read_text().replace("a cat", "a dog"))
    elif change == "image gone":
        (tmp_path / "images" / "b.png").rename(tmp_path / "images" / "c.png")
    elif change == "image before":
        write_image(tmp_path / "a.png", shade=1)
    elif change == "folder":
        roots.reverse()
    else:
        (entry,) = (cache_root() / "examples").iterdir()
        entry.write_text(entry.read_text()[:-9])
    after = read_examples(path, roots=roots)
    assert len(made) == 8
    assert (content(after) == content(before)) == (change in ("folder", "damaged"))


def test_what_is_not_remembered(tmp_path: Path, made: list[str]) -> None:
    path = write_set(tmp_path)
    lacking = [*json.loads(path.read_text()), item("<image>?", "a", "none.png")]
    for items in (lacking, lacking[:2]):
        write_json(path, items)
        read(path)
        read(path)
    assert len(made) == 2 * 5 + 2 * 2 and not (cache_root() / "examples").exists()


def test_only_so_many_files_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_FILES", 2)
    for number in range(4):
        items = [item(f"{number} {k}?", "a") for k in range(3)]
        read_examples(write_json(tmp_path / f"{number}.json", items))
    assert len(list((cache_root() / "examples").iterdir())) == 2


def test_a_file_that_may_not_be_read_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_set(tmp_path)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"set\.json cannot be read: Permission denied"):
        read(path)
