"""Kill a run and resume it: the result is that of an undisturbed run, bit for bit.

benchmarks/cost/kill_resume.py does the same at five random places.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import fedmosaic
from benchmarks.cost.kill_resume import experiment, fingerprint, place_of_kill
from fedmosaic.federation import client, run_folder
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.data_record import DataRecord
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime

DEAD = 9


def test_a_killed_run_resumes_bit_by_bit(tiny: Path, tmp_path: Path) -> None:
    result = experiment(str(tiny), ["train.steps=6"], kills=1, seed=1, folder=tmp_path)
    assert (
        result["metrics identical"] and result["files identical"] and not result["leftover files"]
    ), result
    assert result["files"] > 10 and result["metrics"] > 10


def dies(
    run: Callable[[], Any],
    owner: Any,
    name: str,
    call: int,
    half: Callable[..., Any] = lambda *_: None,
) -> None:
    """Run in a process that dies in the middle of a function's ``call``-th call."""
    pid = os.fork()
    if pid == 0:
        try:
            real, calls = getattr(owner, name), 0

            def wrapped(*arguments: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == call:
                    half(*arguments)
                    os._exit(DEAD)
                return real(*arguments, **named)

            setattr(owner, name, wrapped)
            run()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == DEAD, name


def settings_of(folder: Path) -> Any:
    return yaml.safe_load((folder / "config.yaml").read_text())


def half_a_file(path: Path, *_: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{")


def half_a_line(folder: RunFolder, *_: Any) -> None:
    with folder.metrics.open("a") as stream:
        stream.write('{"kind": "client", "rou')


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_death_while_writing_leaves_nothing_half_done(tiny: Path, tmp_path: Path) -> None:
    def start(out: Path) -> Any:
        return fedmosaic.run(tiny, out=out, progress=False, trackers=(), workers=1)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start(whole)

    def resumed() -> Any:
        return fedmosaic.resume(cut, progress=False)

    dies(
        lambda: start(cut),
        run_folder,
        "write_atomic",
        1,
        lambda path, _: half_a_file(path.with_name(f".{path.name}.x")),
    )
    assert place_of_kill(cut) == "before the run folder"
    dies(lambda: start(cut), Runtime, "__init__", 1)
    assert place_of_kill(cut) == "before its settings were settled"
    begun = settings_of(cut)
    dies(resumed, DataRecord, "of", 1)
    dies(resumed, RunFolder, "create", 1)
    assert settings_of(cut) == begun and begun["scenario"]["relevance"]["model"] == "smallest"
    dies(resumed, client, "write_tensors", 3, half_a_file)
    assert settings_of(cut) == {**settings_of(whole), "started": begun["started"]}
    assert place_of_kill(cut) == "writing checkpoint 1"
    dies(resumed, RunFolder, "append", 1, half_a_line)
    assert place_of_kill(cut) == "in round 0"
    dies(resumed, RunFolder, "checkpoint", 2)
    assert place_of_kill(cut) == "between metrics and checkpoint 2"
    dies(resumed, run_folder.shutil, "rmtree", 2)  # the first removes clients of the killed run
    assert len(list((cut / "checkpoints").iterdir())) == 3
    dies(resumed, LocalClient, "save_adapter", 2)
    assert list(cut.glob(".adapters.*"))
    dies(resumed, RunFolder, "write_summary", 1)
    assert fedmosaic.resume(cut, progress=False).summary["rounds"]["done"] == 3
    assert fingerprint(cut) == fingerprint(whole)
    assert {path.name for path in cut.rglob("*")} == {path.name for path in whole.rglob("*")}
