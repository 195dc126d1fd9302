"""Check that the benchmark of the server's round runs, in memory and with files, and reports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cost import server_scale, synthetic_updates


def measured(
    arguments: str, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> dict[str, Any]:
    command = f"server_scale --json --signature 3000 --folder {folder} {arguments}"
    patch.setattr(sys, "argv", command.split())
    server_scale.main()
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_rounds_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (server_scale, synthetic_updates):
        monkeypatch.setattr(module, "RANK", 16)
    plain = measured("--clients 7 --rounds 2", tmp_path, capsys, monkeypatch)
    assert plain["rounds"] == 2 and plain["files_gib"] == 0 < plain["peak_gib"]
    assert plain["ratio_to_gemm"] == pytest.approx(
        plain["seconds"] / plain["gemm_seconds"], rel=2e-3
    )
    files = measured("--clients 7 --memory 0.1MB --layer-values 640", tmp_path, capsys, monkeypatch)
    assert files["files_gib"] > 0 and set(files["parts"]) == {
        *("receive", "aggregate", "record", "downloads")
    }
    assert not list(tmp_path.iterdir())


def test_searches_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = "--signatures-only --clients 300 --top-k 4"
    assert measured(arguments, tmp_path, capsys, monkeypatch)["recall"] > 0.99
    assert measured(f"{arguments} --random", tmp_path, capsys, monkeypatch)["recall"] < 0.99
