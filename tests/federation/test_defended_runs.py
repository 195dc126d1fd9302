"""Test runs with defences: an attacker is stopped; limits that nobody reaches change no bit."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from short_run import files, numbers, start

import fedmosaic
from fedmosaic.adapters import read_state
from fedmosaic.adapters.keys import in_scope
from fedmosaic.algorithms import Message
from fedmosaic.algorithms.fedmosaic import FedMosaic
from fedmosaic.cli import main


def test_limits_that_nobody_reaches_change_no_bit(tiny: Path, tmp_path: Path) -> None:
    wide, short = ["defences.max_update_norm=1e6", "defences.min_cosine=-1"], ["evaluation.every=0"]
    off = start(tiny, tmp_path / "off", rounds=2, overrides=short)
    held = start(tiny, tmp_path / "held", rounds=2, overrides=[*wide, *short])
    lines = numbers(held.folder)
    found = [line.pop("defences") for line in lines if line["kind"] == "round"]
    assert lines == numbers(off.folder) and files(held.folder) == files(off.folder)
    assert all(not entry["clipped"] and not entry["refused"] for entry in found)
    assert all(set(entry["norms"]) == set("abcd") for entry in found)
    assert "defences" not in held.summary


def test_an_attacker_is_stopped_in_a_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Client b sends a scaled update, then the opposite of what it received, then NaN."""
    upload = FedMosaic.upload

    def attack(self: FedMosaic, client: Any) -> Message:
        message = upload(self, client)
        if client.name != "b":
            return message
        if client.round == 0:
            return Message(
                {
                    name: value * 100.0 if name.startswith("block") else value
                    for name, value in message.tensors.items()
                }
            )
        received = in_scope(read_state(client.model, "global"), "block")
        factor = -1.0 if client.round == 1 else float("nan")
        return Message({**message.tensors, **{k: factor * v for k, v in received.items()}})

    monkeypatch.setattr(FedMosaic, "upload", attack)
    overrides = ["defences.max_update_norm=3", "defences.min_cosine=-0.3", "evaluation.every=0"]
    stream = io.StringIO()
    monkeypatch.setattr(
        "fedmosaic.reporting.progress.Console", lambda *a, **k: Console(file=stream, width=300)
    )
    run = fedmosaic.run(
        tiny, out=tmp_path / "run", overrides=overrides, workers=1, trackers=(), progress=True
    )
    first, second, third = (line for line in numbers(run.folder) if line["kind"] == "round")
    assert set(first["defences"]["clipped"]) == {"b"} and not first["refused"]
    assert set(first["defences"]["clipped"]["b"]) == {"P", "Q"}
    assert second["defences"]["refused"] == ["b"] == list(second["refused"])
    assert re.search(r"its [PQ] points away from the others' \(cosine -0.9", second["refused"]["b"])
    assert "NaN or Inf" in third["refused"]["b"] and third["defences"]["refused"] == []
    assert run.summary["defences"] == {"b": {"clipped": 1, "refused": 1}}
    assert run.summary["refused"] == 2
    progress = stream.getvalue()
    assert "update of client 'b' scaled down to 3 times the median norm: P was " in progress
    assert "points away from the others' (cosine -" in progress
    main(["show", str(run.folder)])
    shown = " ".join(capsys.readouterr().out.split())
    assert "defences: client 'b': clipped in 1 round, refused in 1 round" in shown
    page = fedmosaic.report([run.folder], out=tmp_path / "report.html").read_text()
    assert "clipped in 1 round, refused in 1 round" in page
