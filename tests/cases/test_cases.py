"""Test that inputs of the kinds that people bring are read, or refused, as they must be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.errors import FedMosaicError
from tests.cases.matching import differences, matches, says
from tests.families import build

HERE = Path(__file__).parent
CASES = [json.loads(line) for line in (HERE / "expected.jsonl").read_text().splitlines()]
BUNDLED = HERE.parents[1] / "src/fedmosaic/models/bundled/llama-8x96"


def cases(*kinds: str) -> Any:
    chosen = [case for case in CASES if case["kind"] in kinds]
    return pytest.mark.parametrize("case", chosen, ids=[case["id"] for case in chosen])


@pytest.fixture(autouse=True)
def _in_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)


@pytest.fixture(scope="session")
def text_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("text only") / "model")


def show(capsys: pytest.CaptureFixture[str], path: Path | str, *more: str) -> Any:
    """Return status, printed lines and the text of standard error of ``data show``."""
    capsys.readouterr()
    status = main(["data", "show", str(path), "--root", ".", *more, "--json"])
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


def check_shown(case: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    if "count" in case:
        assert len(lines) == case["count"]
    by_index = {line["index"]: line for line in lines}
    for expected in case["lines"]:
        assert differences(expected, by_index[expected["index"]]) == []


def check_refused(case: dict[str, Any], lines: list[Any], err: str) -> None:
    assert lines == [] and len(err.strip().splitlines()) == 1, err
    assert says(case["error"], err), err
    assert not any(part.casefold() in err.casefold() for part in case.get("error_not", ())), err


@cases("show", "refuse", "show-or-refuse")
def test_shown_or_refused(
    case: dict[str, Any], capsys: pytest.CaptureFixture[str], text_only: Path
) -> None:
    names = {"text-only": str(text_only)}
    arguments = [names.get(word, word) for word in case.get("args", ())]
    status, lines, err = show(capsys, case["file"], *arguments)
    if status == 0 and case["kind"] != "refuse":
        check_shown(case, lines)
    else:
        assert status == 2 and case["kind"] != "show", err
        check_refused(case, lines, err)


@cases("told")
def test_said(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, err = show(capsys, case["file"], *case.get("args", ()))
    if status == 0 and "or_lines" in case and not err:
        check_shown({**case, "lines": case["or_lines"]}, lines)
    else:
        assert any(says(case["error"], line) for line in err.splitlines()), err


@cases("picture", "picture-refuse")
def test_pictures(case: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "it"}]
    items = [
        {"image": name, "conversations": turns} for name in ("pictures/plain.png", case["file"])
    ]
    (tmp_path / "two.json").write_text(json.dumps(items))
    status, lines, err = show(capsys, tmp_path / "two.json")
    if status == 0 and case["kind"] == "picture":
        image = lines[1]["images"][0]
        assert all(matches(wanted, image[key]) for key, wanted in case["image"].items()), image
        if "corners" in case:
            check_corners(case, tmp_path / "two.json")
    else:
        assert status == 2 and (case["kind"] == "picture-refuse" or case.get("or_refuse")), err
        check_refused({"error": [Path(case["file"]).name, "item 1"], **case}, lines, err)


def check_corners(case: dict[str, Any], path: Path) -> None:
    """Compare the colours of what a model is given, three pixels in from the edges."""
    picture = fedmosaic.show_data(path, root=".").items[1].example.images[0].load()
    right, low = picture.width - 4, picture.height - 4
    wanted = case["corners"]
    for name, place in {"tl": (3, 3), "tr": (right, 3), "bl": (3, low)}.items():
        near = {"near": wanted[name], "within": wanted["within"]}
        assert matches(near, list(picture.getpixel(place))), name


@cases("config", "config-refuse", "config-told")
def test_scenario_files(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in case.get("env", {}).items():
        monkeypatch.setenv(name, str(HERE) if value == "." else value)
    try:
        scenario = fedmosaic.load_scenario(case["file"])
    except FedMosaicError as error:
        assert case["kind"] != "config", error
        assert says(case["error"], str(error)), error
        assert not any(part in str(error) for part in case.get("error_not", ())), error
        return
    assert case["kind"] != "config-refuse"
    for path, wanted in case["fields"].items():
        value: Any = scenario
        for key in path.split("."):
            value = value[int(key)] if key.isdigit() else getattr(value, key)
        if path == "data.root":
            assert Path(value).resolve() == (HERE / wanted).resolve()
        else:
            assert value == wanted


@cases("template", "template-refuse")
def test_chat_templates(
    case: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED, folder)
    template = folder / "chat_template.jinja"
    template.unlink(missing_ok=True)
    shutil.copyfile(HERE / case["file"], template)
    status, lines, err = show(capsys, case["data"], "--model", str(folder))
    if status == 0 and case["kind"] == "template":
        check_shown(case, lines)
    else:
        assert status == 2 and (case["kind"] == "template-refuse" or case.get("or_refuse")), err
        assert len(err.strip().splitlines()) == 1, err
        assert says(case.get("error", ["item"]), err), err
