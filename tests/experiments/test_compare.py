"""Compare algorithms on tiny runs: interruptions and failures do not stop the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.errors import ConfigError
from fedmosaic.experiments import grid
from fedmosaic.experiments.grid import GridListener, Job
from fedmosaic.experiments.variants import Variant
from in_process import Here


def compare(small: Path, out: Path, *algorithms: str, **options: Any) -> Any:
    return fedmosaic.compare(
        small,
        algorithms=algorithms,
        out=out,
        progress=False,
        **{"seeds": [0], "jobs": 2, **options},
    )


def numbers(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics without timings."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "parts", "memory")}
        for line in lines
    ]


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_failure_is_reported_and_the_others_run_once(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = grid._Process
    monkeypatch.setattr(
        grid, "_Process", lambda job, *more: (real if job.label == "boom" else Here)(job, *more)
    )
    out = tmp_path / "comparison"
    command = [
        "compare",
        str(small),
        "--algorithms",
        "boom=sft:train.lr=1e30,sft,fedavg",
        "--out",
        str(out),
        "--seeds",
        "0-1",
    ]
    assert main(command) == 1
    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    assert (
        "6 runs" in words
        and "boom · seed 0 failed: round 0: no usable update. client 'a' has no update" in words
    )
    assert "the training loss is not finite; lower train.lr" in words
    result = json.loads((out / "comparison.json").read_text())
    assert list(result["algorithms"]) == ["sft", "fedavg"] and result["algorithms"]["fedavg"][
        "seeds"
    ] == [0, 1]
    assert (
        "rank" in result["algorithms"]["sft"]["Self"]
        and "minus sft" in result["algorithms"]["fedavg"]["Others"]
    )
    assert [(entry["label"], entry["seed"]) for entry in result["failed"]] == [
        ("boom", 0),
        ("boom", 1),
    ]
    assert "| fedavg |" in (out / "comparison.md").read_text()
    assert not (out / "sft" / "seed-0.log").exists() and (out / "boom" / "seed-0.log").exists()

    # The run is the one that `fedmosaic run` would have made.
    single = fedmosaic.run(
        small,
        algorithm="fedavg",
        seed=1,
        out=tmp_path / "single",
        workers=1,
        progress=False,
        trackers=(),
    )
    assert numbers(single.folder) == numbers(out / "fedavg" / "seed-1")

    before = stamps(out / "sft") | stamps(out / "fedavg")
    assert main([*command[:3], "sft,fedavg", *command[4:]]) == 0
    assert stamps(out / "sft") | stamps(out / "fedavg") == before
    assert "4 finished before" in capsys.readouterr().out
    assert main(["show", str(out)]) == 0
    assert "difference to best other" in capsys.readouterr().out

    with pytest.raises(
        ConfigError,
        match=r"other settings: variants\.sft\.scenario\.train\.lr is 0\.002 there, 0\.5 here",
    ):
        compare(small, out, "sft", overrides=["train.lr=0.5"])
    with pytest.raises(ConfigError, match="another comparison is running"), FileLock(out / ".lock"):
        compare(small, out, "sft")


def test_mistakes_are_named_before_anything_is_written(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    for algorithms, options, message in (
        (("sft", "fedmosiac"), {}, "Did you mean 'fedmosaic'"),
        (("sft", "fedmosaic:step=1"), {}, "'steps'"),
        (("sft", "sft:train.lrr=1", "fedavg"), {}, "sft:train.lrr=1: unknown key"),
        (
            ("sft", "fast=sft:train.lr=1"),
            {"sweep": {"train.lr": ["1", "2"]}},
            r"fast sets train\.lr itself",
        ),
        (("sft",), {"sweep": {"train.lr": ["x", "2"]}}, r"train\.lr = 'x'"),
        (("sft",), {"sweep": {"train.lr": ["1", "2"]}, "sweep_seeds": [0]}, "seed 0 is used both"),
        (("sft",), {"seeds": []}, "at least one seed"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare(small, out, *algorithms, **options)
        assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match=r"already holds 'mine\.txt'"):
        compare(small, out, "sft")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the child through /proc")
def test_it_continues_after_kill_9(small: Path, tmp_path: Path) -> None:
    out, changes = tmp_path / "comparison", ["rounds=6"]
    command = [
        sys.executable,
        "-m",
        "fedmosaic",
        "compare",
        str(small),
        "--algorithms",
        "sft,fedmosaic",
        "--seeds",
        "0",
    ]
    command += ["--out", str(out), "--jobs", "1", "--quiet", "--set", *changes]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    cut = out / "fedmosaic" / "seed-0"
    deadline = time.monotonic() + 600
    while not (cut / "checkpoints" / "round-0002").is_dir():
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    children = _children(parent.pid)  # the run itself, or what is forked for each run
    runs = [child for server in children for child in _children(server)] or children
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert len(children) == len(runs) == 1
    while any(_alive(child) for child in [*children, *runs]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (out / "sft" / "seed-0" / "summary.json").is_file() and not (
        cut / "summary.json"
    ).is_file()

    before = stamps(out / "sft")
    done = compare(small, out, "sft", "fedmosaic", overrides=changes)
    assert not done.failures and stamps(out / "sft") == before
    whole = fedmosaic.run(
        small, overrides=changes, out=tmp_path / "whole", workers=1, progress=False, trackers=()
    )
    assert numbers(cut) == numbers(whole.folder)


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_settings_are_chosen_on_held_out_training_examples_and_then_used(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "_Process", Here)
    done = compare(
        small,
        tmp_path / "chosen",
        "sft",
        sweep={
            "train.lr": ["1e30", "1e-3", "1e-9"],
            "algorithms.fedmosaic-interpolation.interpolation": ["0.1"],
        },
        sweep_by="self",
        sweep_seeds=[1000],
        overrides=["data.train=30"],
    )
    folder = done.folder
    choice = json.loads((folder / "sweep.json").read_text())["choices"]["sft"]
    failed, *scored = choice["candidates"]
    assert failed["settings"] == ["train.lr=1e30"] and "not finite" in failed["failed"]
    assert [entry["settings"] for entry in scored] == [["train.lr=1e-3"], ["train.lr=1e-9"]]
    best = max(scored, key=lambda entry: entry["score"])
    assert (
        choice["chosen"] == best["settings"] == done.result["chosen"]["sft"]
        and best["score"] == best["self"]
    )
    run = yaml.safe_load((folder / "sft" / "seed-0" / "config.yaml").read_text())
    assert run["scenario"]["train"]["lr"] == float(best["settings"][0].partition("=")[2])
    assert run["scenario"]["data"]["validation"] is None and not done.failures
    tried = yaml.safe_load(
        (folder / "sweep" / "sft" / "train.lr-1e-3" / "seed-1000" / "config.yaml").read_text()
    )
    assert (tried["seed"], tried["scenario"]["data"]["validation"]) == (1000, 1000)
    assert tried["scenario"]["data"]["seed"] == run["scenario"]["data"]["seed"]
    measured = [
        line["n"]
        for line in numbers(folder / "sweep" / "sft" / "train.lr-1e-3" / "seed-1000")
        if line["kind"] == "score"
    ]
    assert set(measured) == {6}  # a fifth of 30


def test_a_run_without_settings_starts_again(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    with pytest.raises(KeyboardInterrupt):
        interrupted(small, out)
    begun = out / "sft" / "seed-0"
    begun.mkdir(parents=True, exist_ok=True)
    (begun / ".config.yaml.half").write_text("name: ")
    assert not compare(small, out, "sft").failures
    assert (begun / "summary.json").is_file() and not (begun / ".config.yaml.half").exists()


def interrupted(small: Path, out: Path) -> None:
    """Stop a comparison by Ctrl-C when its first process starts."""
    from fedmosaic.config.load import load_scenario
    from fedmosaic.experiments.compare import run_comparison
    from fedmosaic.experiments.plan import Plan

    class Stop(GridListener):
        def job_started(self, job: Job) -> None:
            raise KeyboardInterrupt

    run_comparison(
        Plan(str(small), load_scenario(small), [Variant("sft", "sft")], [0]), out, listener=Stop()
    )
