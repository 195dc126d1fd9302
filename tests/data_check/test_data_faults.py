"""Test that everything wrong with data is listed in one pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.data import load_task
from fedmosaic.data.checks.report import CheckedData
from tests.data_check.broken_tree import FAULTS, asked, picture, write_tree
from tests.families import build


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, text_model: str) -> CheckedData:
    path = write_tree(tmp_path_factory.mktemp("data"))
    return fedmosaic.check_data(path, root=path.parent, models=[text_model], progress=False)


@pytest.mark.parametrize("name", FAULTS)
def test_each_of_many_faults_is_listed_in_one_pass(broken: CheckedData, name: str) -> None:
    _, words = FAULTS[name]
    place = list(FAULTS).index(name)
    lines = [str(fault) for fault in broken.faults if fault.item == place]
    assert any(words in line and "north.json: item" in line for line in lines), lines


def test_good_items_have_no_faults(broken: CheckedData) -> None:
    assert {fault.item for fault in broken.faults} == set(range(len(FAULTS)))


def test_a_picture_for_a_model_of_text_is_listed_for_every_item(
    tmp_path: Path, text_model: str
) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    items = [asked(str(k), text=f"{k}?", image="a.png") for k in range(9)]
    found = check(tmp_path, items, models=[text_model])
    texts = [fault for fault in found.faults if "takes text only" in fault.message]
    assert [fault.item for fault in texts] == list(range(9))
    assert {fault.model for fault in texts} == {text_model}


def check(folder: Path, items: list[Any], **options: Any) -> CheckedData:
    path = folder / "north.json"
    path.write_text(json.dumps(items))
    return fedmosaic.check_data(path, root=folder, progress=False, **options)


def test_what_a_task_holds_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    items = [
        asked(str(k), f"{k}? Options: yes, no", "no" if k % 3 else "yes", image="a.png")
        for k in range(20)
    ]
    found = check(tmp_path, items)
    assert found.faults == [] and found.unchecked == {}
    (task,) = found.tasks
    assert (task.kind, task.metric, list(task.splits)) == ("choice", "accuracy", ["train", "test"])
    train, test = task.splits["train"], task.splits["test"]
    assert (train.items, test.items) == (16, 4)
    assert train.options == {2: 16} and train.images == {1: 16}
    assert train.heights == [24, 24, 24] and train.widths == [24, 24, 24]
    assert train.answers == 2 and train.commonest == "no" and 0.5 < train.share < 1
    assert train.repeated == task.shared == 0


def test_the_split_is_that_of_a_run(tmp_path: Path) -> None:
    items = [asked(str(k), text=f"{k}?", answer=f"a{k}") for k in range(20)]
    found = check(tmp_path, [*items[:5], *items[:5], *items[5:]])
    task = load_task(str(tmp_path / "north.json"), root=tmp_path)
    tested = {example.question for example in task.test}
    trained = [example.question for example in task.train]
    shared = sum(example.question in trained for example in task.test)
    assert found.tasks[0].shared == shared
    assert found.tasks[0].splits["test"].items == len(task.test) and tested


def test_duplicates_are_noted_and_are_no_faults(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(
        json.dumps([asked("1", text="a?"), asked("1", text="b?"), asked("3", text="a?")])
    )
    (tmp_path / "test.json").write_text(json.dumps([asked("x", text="b?"), asked("y", text="c?")]))
    found = fedmosaic.check_data(tmp_path / "train.json", root=tmp_path, progress=False)
    assert found.faults == [] and found.tasks[0].shared == 1
    notes = "\n".join(found.notes)
    assert "1 train items repeat the content of an earlier item; first train.json item 2" in notes
    assert "1 train items have the id of an earlier item; first train.json item 1" in notes
    assert "1 of 2 test items are also training items; first test.json item 0" in notes


def test_the_same_words_about_other_pictures_are_no_duplicates(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(picture(shade=ord(name)))
    (tmp_path / "d.png").write_bytes((tmp_path / "a.png").read_bytes())
    items = [asked(name, text="Which?", image=f"{name}.png") for name in "abcd"]
    found = check(tmp_path, items)
    facts = found.tasks[0].splits
    repeated = facts["train"].repeated + facts["test"].repeated + found.tasks[0].shared
    assert repeated == 1, "the content of a.png and d.png is the same"


def test_unused_files_are_noted(tmp_path: Path) -> None:
    items = [asked(str(k), text=f"{k}?") for k in range(4)]
    (tmp_path / "north_test.json").write_text(json.dumps(items))
    (tmp_path / "south_test.json").write_text(json.dumps(items))
    found = check(tmp_path, items)
    (note,) = [note for note in found.notes if "looks like test data" in note]
    assert "north_test.json" in note and "is not used" in note


@pytest.mark.parametrize(
    ("content", "words"),
    [("[]", "holds no items"), ("[{", "not valid JSON"), ("[1]", "expected an object")],
)
def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "north.json").write_text(content)
    found = fedmosaic.check_data(tmp_path / "north.json", root=tmp_path, progress=False)
    assert any(words in str(fault) for fault in found.faults)


def test_a_choice_task_without_options(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, "{name: north.json, kind: choice}")
    (tmp_path / "north.json").write_text(
        json.dumps([asked(str(k), text=f"{k}?", answer=f"{k}") for k in range(10)])
    )
    faults = fedmosaic.check_data(scenario, progress=False).faults
    assert [fault.field for fault in faults] == ["options", "options"]
    assert "say kind: open" in str(faults[0])


def write_scenario(folder: Path, task: str, model: str = "miniature/llama-8x96") -> Path:
    path = folder / "scenario.yaml"
    path.write_text(
        f"title: t\nrounds: 1\ndata: {{root: {folder}}}\n"
        f"clients: [{{name: north, model: {model}, tasks: [{task}]}}]\n"
    )
    return path


def test_models_that_are_not_here_are_said_to_be_unchecked(tmp_path: Path) -> None:
    (tmp_path / "north.json").write_text(
        json.dumps([asked(str(k), text=f"{k}?") for k in range(4)])
    )
    found = fedmosaic.check_data(write_scenario(tmp_path, "north.json", "a/b"), progress=False)
    assert found.faults == [] and "not on this machine" in found.unchecked["a/b"]


def test_a_missing_folder_is_one_fault(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, "VSR-0, TQA-1")
    text = scenario.read_text().replace(str(tmp_path), str(tmp_path / "none"))
    scenario.write_text(text)
    (fault,) = fedmosaic.check_data(scenario, progress=False).faults
    assert "none does not exist" in fault.message and "VSR-0, TQA-1" in fault.message


@pytest.mark.parametrize("name", ["miniature/quickstart", "easy-vqa", "miniature/icon-0"])
def test_data_that_comes_with_the_package_has_no_faults(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "easy-vqa":
        pytest.importorskip("easy_vqa")
    assert main(["data", "check", name, "--quiet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["faults"] == [] and found["tasks"] and found["unchecked"] == {}
    if name == "miniature/quickstart":
        tokens = found["tasks"][0]["splits"]["train"]["tokens"]
        assert tokens["miniature/llama-8x96"]["least"] > 20


def test_items_with_the_same_fault_share_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    items = [
        {"picture_of": f"{number}.png", "question": "What?", "answer": "it"} for number in range(12)
    ]
    path.write_text(json.dumps([*items, {"question": "What?"}]))
    assert main(["data", "check", str(path), "--quiet"]) == 1
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fault: ")]
    assert len(faults) == 2 and "item 0 " in faults[0] and "item 12 " in faults[1]
    assert faults[0].endswith("(the same in items 1, 2, 3, 4, 5, 6, 7, 8 and 3 more)")
    assert main(["data", "check", str(path), "--quiet", "--limit-faults", "0"]) == 1
    assert capsys.readouterr().out.count("fault: ") == 13
    assert main(["data", "check", str(path), "--quiet", "--limit-faults", "1"]) == 1
    assert "\n1 more fault; --limit-faults 0 prints all\n" in capsys.readouterr().out


def test_the_command_prints_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tree(tmp_path)
    command = ["data", "check", str(path), "--root", str(tmp_path), "--quiet"]
    assert main([*command, "--limit-faults", "3"]) == 1
    out = capsys.readouterr().out
    assert out.count("\nfault: ") == 3 and "more faults; --limit-faults 0 prints all" in out
    assert main([*command, "--limit-faults", "0"]) == 1
    out = capsys.readouterr().out
    assert out.count("\nfault: ") >= 29
    assert out.endswith(f"\n{out.count('fault: ')} faults: {out.count('fault: ')} in {path}\n")
    assert main(["data", "check", str(path), "--limit-faults", "-1"]) == 2
    assert main(["data", "check", str(path), "--root", str(tmp_path / "none")]) == 2
    assert main(["data", "check", "miniature/icon-0", "--model", "nowhere/none/x"]) == 2
