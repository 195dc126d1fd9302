"""Test the command that downloads data sets, and its messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmosaic.cli import main
from tests.drake.fake_hub import FILES, FakeHub


def run(*arguments: object) -> int:
    return main(["data", "download", *map(str, arguments)])


def test_the_command(server: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--to", tmp_path, "--endpoint", server.address)
    assert run("drake", "--only", "VSR", *place) == 0
    out, err = capsys.readouterr()
    assert "VSR: downloading 20.5 kB" in err and "VSR: unpacking" in err
    assert out.splitlines()[3].split()[:3] == ["VSR", "1", "there"]
    assert run("drake", "--list", "--json", *place) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["VSR"]["state"] == "there" and found["NLVR2"]["state"] == "missing"
    assert found["NLVR2"]["archive_bytes"] == len(FILES["NLVR2.tar"])
    assert (
        found["iconqa"]["licence"] == "CC BY-NC-SA 4.0" and found["CIRR"]["archive_bytes"] is None
    )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["drakee"], 200, "unknown benchmark 'drakee'. Did you mean 'drake'?"),
        (["drake", "--only", "VSRR"], 200, "DRAKE has no data set 'VSRR'. Did you mean 'VSR'"),
        (["drake"], 503, "answers with HTTP status 503"),
        (["drake"], 401, "answers with HTTP status 401"),
        (["hflb"], 200, "there is no dataset repository SNUMPR/HFLB at http://127.0.0.1"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    status: int,
    message: str,
    server: FakeHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.status = status
    place = ("--to", tmp_path / "new", "--endpoint", server.address)
    assert run(*arguments, *place) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not (tmp_path / "new").exists()


def test_without_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--to", tmp_path / "new")
    assert run("drake", "--only", "VSR", *place) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "SNUMPR/DRAKE cannot be read: HF_HUB_OFFLINE is set" in line
    assert run("drake", "--list", *place) == 0
    assert "sizes are not known: SNUMPR/DRAKE" in capsys.readouterr().out
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert run("drake", *place, "--endpoint", "http://127.0.0.1:9") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "http://127.0.0.1:9 cannot be reached" in line and not (tmp_path / "new").exists()
