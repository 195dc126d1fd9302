"""Kill a run with SIGKILL at random moments, resume it each time, and compare everything with an undisturbed run, bit for bit.

    python -m benchmarks.cost.kill_resume --kills 5 --seed 0

Compared are all metrics (timings aside), every checkpoint and every adapter. The result is ``benchmarks/results/kill_resume.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common.paths import RESULTS

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
}
TIMINGS = ("seconds", "parts", "memory")


def command(*arguments: str) -> list[str]:
    """The fedmosaic command in a process of its own."""
    return [sys.executable, "-m", "fedmosaic", "run", "--quiet", *arguments]


def fingerprint(folder: Path) -> dict[str, Any]:
    """Metrics without timings, and the hash of every file of checkpoints and adapters."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]
    hashes = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("checkpoints", "adapters")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }
    rounds = [line for line in metrics if line["kind"] == "round"]
    return {"metrics": metrics, "rounds": rounds, "files": hashes}


def timed(arguments: list[str], config: Path) -> tuple[float, float]:
    """Run a command to its end; the seconds until its run folder exists, and in all."""
    started = time.perf_counter()
    process = subprocess.Popen(command(*arguments), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    while not config.is_file() and process.poll() is None:
        time.sleep(0.01)
    beginning = time.perf_counter() - started
    if process.wait():
        sys.exit(f"the undisturbed run failed with status {process.returncode}")
    return beginning, time.perf_counter() - started


def killed(arguments: list[str], after: float, everything: bool) -> bool:
    """Run a command and kill it after so many seconds; False if it ended by itself before.

    Args:
        everything: its worker processes too; else they live on for a moment, while the run is resumed already.
    """
    process = subprocess.Popen(
        command(*arguments), env=ENVIRONMENT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        (os.killpg if everything else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def place(folder: Path) -> str:
    """Where in the run death came, from what it left."""
    if not (folder / "config.yaml").is_file():
        return "before the run folder"
    done = max(
        (int(path.name[-4:]) for path in (folder / "checkpoints").glob("round-*")), default=0
    )
    if list((folder / "checkpoints").glob(".*")):
        return f"writing checkpoint {done + 1}"
    metrics = folder / "metrics.jsonl"
    rounds = (
        sum('"kind": "round"' in line for line in metrics.read_text().splitlines())
        if metrics.is_file()
        else 0
    )
    return f"between metrics and checkpoint {rounds}" if rounds > done else f"in round {done}"


def experiment(
    scenario: str, settings: list[str], kills: int, seed: int, folder: Path
) -> dict[str, Any]:
    """The undisturbed run, the killed one, and whether they are the same.

    A moment is drawn for each kill, from loading models and data to one and a half rounds later. Should a run end before its
    turn to die, everything starts over.
    """
    options = [part for setting in settings for part in ("--set", setting)]
    whole, cut = folder / "whole", folder / "cut"
    beginning, length = timed([scenario, "--out", str(whole), *options], whole / "config.yaml")
    rounds = len(fingerprint(whole)["rounds"])
    draw = random.Random(seed)
    deaths: list[dict[str, Any]] = []

    def arguments() -> list[str]:
        begun = (cut / "config.yaml").is_file()
        return ["--resume", str(cut)] if begun else [scenario, "--out", str(cut), *options]

    while len(deaths) < kills:
        after = draw.uniform(0.7 * beginning, beginning + 1.5 * (length - beginning) / rounds)
        everything = draw.random() < 0.5
        if killed(arguments(), after, everything):
            deaths.append(
                {"seconds": round(after, 2), "workers too": everything, "place": place(cut)}
            )
        else:
            shutil.rmtree(cut)
            deaths.clear()
    timed(arguments(), cut / "config.yaml")
    one, two = fingerprint(whole), fingerprint(cut)
    return {
        "rounds": rounds,
        "seconds": {"undisturbed": round(length, 1), "of it loading": round(beginning, 1)},
        "kills": deaths,
        "metrics": len(one["metrics"]),
        "files": len(one["files"]),
        "metrics identical": one["metrics"] == two["metrics"],
        "files identical": one["files"] == two["files"],
        "left over": sorted(path.name for path in [*cut.glob(".*"), *cut.glob("*/.*")]),
    }


def main() -> None:
    """Run the experiment and write its result; exit 1 if anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="miniature/quickstart")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = experiment(
            arguments.scenario, arguments.set, arguments.kills, arguments.seed, Path(folder)
        )
    settings = "".join(f" --set {setting}" for setting in arguments.set)
    result = {
        "command": f"python -m benchmarks.cost.kill_resume --kills {arguments.kills} --seed {arguments.seed}{settings}",
        "scenario": arguments.scenario,
        **result,
    }
    print(json.dumps(result, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kill_resume.json").write_text(json.dumps(result, indent=1) + "\n")
    if not (result["metrics identical"] and result["files identical"]) or result["left over"]:
        sys.exit("the resumed run differs from the undisturbed one, or left something behind")


if __name__ == "__main__":
    main()
