"""Test ``fedmosaic init`` as a command: its table, and every mistake in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sources import MODEL, json_file, rows, with_test_file
from transformers import GPT2Config, GPT2LMHeadModel

from fedmosaic.cli import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with ``items.json`` and ``tested``, a folder with test items."""
    json_file(tmp_path)
    (tmp_path / "tested").mkdir()
    with_test_file(tmp_path / "tested")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(text: str, folder: str = "fed", data: str = "items.json") -> list[str]:
    models = [] if "--models" in text else ["--models", MODEL]
    return ["init", folder, "--data", data, *models, *text.split()]


def refusal(words: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line of a refusal, after which nothing is there that was not before."""
    before = sorted(place.iterdir())
    assert main(words) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.count("\n") == 1
    assert sorted(place.iterdir()) == before
    return shown.err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--split by:sit", ["items.json: no item has a field 'sit'", "Did you mean 'site'?"]),
        ("--split by:choices", ["item 0", "field 'choices'", "list"]),
        ("--split by:site --clients 4", ["4 clients", "'site' has 3 values", "at most 3"]),
        ("--split by:site --clients north,sud", ["'north' is a value", "name all of its values"]),
        ("--clients 13", ["24 items", "13 clients", "at most 12"]),
        ("--clients 0", ["1 or more"]),
        ("--clients -1", ["1 or more"]),
        ("", ["how many clients"]),
        ("--clients a,A", ["'a' and 'A'", "one folder"]),
        ("--clients a/b,c", ["'/'"]),
        ("--split dirichlet --clients 2", ["dirichlet:ALPHA"]),
        ("--split dirichlet:0 --clients 2", ["ALPHA is '0'"]),
        ("--split dirichlet:nan --clients 2", ["ALPHA is 'nan'"]),
        ("--split dirchlet:1 --clients 2", ["Did you mean 'dirichlet'?"]),
        ("--split iid:3 --clients 2", ["write iid, dirichlet:ALPHA"]),
        ("--split dirichlet:1:image --clients 2", ["24 different", "values recur"]),
        ("--clients 2 --test 1", ["--test 1", "between 0 and 1"]),
        ("--clients 2 --public 0", ["--public 0", "between 0 and 1"]),
        ("--split by:site --public 0.9", ["would become public", "smaller share"]),
        ("--clients 2 --models miniature/llama-9x96", ["Did you mean 'miniature/llama-8x96'"]),
        (f"--clients 2 --models {MODEL},{MODEL},{MODEL}", ["3 models for 2 clients"]),
    ],
)
def test_mistakes(
    words: str, parts: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refusal(command(words), place, capsys)
    assert all(part in found for part in parts), found


@pytest.mark.parametrize(
    ("folder", "data", "parts"),
    [
        ("full", "items.json", ["full is not empty", "name a folder"]),
        ("items.json", "items.json", ["items.json is a file"]),
        ("fed", "item.json", ["item.json does not exist", "Did you mean 'items.json'?"]),
        ("fed", "full", ["no training data found"]),
        ("fed", "images/0.png", ["unknown kind of data file"]),
    ],
)
def test_mistakes_about_files(
    folder: str, data: str, parts: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refusal(command("--clients 2", folder, data), place, capsys)
    assert all(part in found for part in parts), found


def test_mistakes_about_test_items(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = refusal(command("--clients 2 --test 0.3", data="tested"), place, capsys)
    assert "there are test items already, in test.jsonl" in found
    found = refusal(command("--clients 7", data="tested"), place, capsys)
    assert "would have 0 test items of the 6 in test.jsonl" in found
    lines = (place / "tested" / "test.jsonl").read_text().replace('"east"', '"west"')
    (place / "tested" / "test.jsonl").write_text(lines)
    found = refusal(command("--split by:site", data="tested"), place, capsys)
    assert "test.jsonl: item" in found and "'west', a value that no training item has" in found


def test_all_faults_are_counted_and_the_first_is_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = rows(place)
    items[3]["answer"] = ["", None]
    items[7]["image"] = "images/gone.png"
    (place / "bad.json").write_text(json.dumps(items))
    found = refusal(command("--clients 2", data="bad.json"), place, capsys)
    assert "bad.json: item 3" in found and "1 more item" in found
    assert "fedmosaic data check bad.json" in found
    items[3]["answer"] = "red"
    (place / "bad.json").write_text(json.dumps(items))
    found = refusal(command("--clients 2", data="bad.json"), place, capsys)
    assert "item 7" in found and "images/gone.png does not exist" in found and "more" not in found
    del items[7]["site"]
    items[7]["image"] = "images/0.png"
    (place / "bad.json").write_text(json.dumps(items))
    found = refusal(command("--split by:site", data="bad.json"), place, capsys)
    assert "item 7" in found and "no value in the field 'site'" in found and "1 of 24" in found


def test_answers_that_are_no_labels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"question": f"{n}?", "answer": f"it is {n}", "topic": n % 2} for n in range(10)]
    (place / "open.json").write_text(json.dumps(items))
    words = command("--clients 2 --split dirichlet:0.5", data="open.json")
    found = refusal(words, place, capsys)
    assert "no labels" in found and "dirichlet:0.5:COLUMN" in found and "'topic'" in found
    assert main(command("--clients 2 --split dirichlet:0.5:topic", data="open.json")) == 0


def test_a_text_model_for_pictures(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=1, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(place / "text")
    capsys.readouterr()
    words = command(f"--clients 2 --models {MODEL},text")
    found = refusal(words, place, capsys)
    assert "'text' takes text only" in found and "24 of 24 items have pictures" in found


def test_the_table_and_the_next_commands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--split by:site --test 0.5", folder="my fed")) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["north", "north", MODEL, "6", "6", "2", "2", "2"] in lines
    assert "  fedmosaic data check 'my fed/scenario.yaml'" in shown
    assert "  fedmosaic run 'my fed/scenario.yaml'" in shown
    text = (place / "my fed" / "scenario.yaml").read_text()
    made_by = text.splitlines()[1].removeprefix("#   ")
    assert made_by.startswith("fedmosaic init 'my fed' --data items.json --split by:site")


def test_data_check_finds_nothing_wrong(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--clients 2", data="tested")) == 0
    assert main(["data", "check", "fed/scenario.yaml", "--quiet"]) == 0
    assert main(["data", "show", "fed/data/client-0", "--limit", "1"]) == 0
    assert "images/" in capsys.readouterr().out
