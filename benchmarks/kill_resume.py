"""Kill a run with SIGKILL at random moments, resume it each time, and compare everything with an undisturbed run, bit for bit.

    python benchmarks/kill_resume.py --kills 5 --seed 0

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

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
TIMINGS = ("seconds", "parts")


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
    return {"metrics": metrics, "files": hashes}


def killed(arguments: list[str], after: float) -> bool:
    """Run a command and kill it after so many seconds; False if it ended by itself before."""
    process = subprocess.Popen(command(*arguments), env=ENVIRONMENT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def experiment(scenario: str, settings: list[str], kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """The undisturbed run, the killed one, and whether they are the same."""
    options = [part for setting in settings for part in ("--set", setting)]
    started = time.perf_counter()
    subprocess.run(
        command(scenario, "--out", str(folder / "whole"), *options),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    length = time.perf_counter() - started
    draw = random.Random(seed)
    moments: list[dict[str, Any]] = []
    cut = folder / "cut"
    while len(moments) < kills:
        after = draw.uniform(0.3, 1.0) * length if not moments else draw.uniform(0.25, 0.6) * length
        arguments = (
            ["--resume", str(cut)] if (cut / "config.yaml").is_file() else [scenario, "--out", str(cut), *options]
        )
        if not killed(arguments, after):
            shutil.rmtree(cut)  # it finished before its turn to die: start over
            continue
        done = sorted(path.name for path in (cut / "checkpoints").glob("round-*"))
        moments.append({"seconds": round(after, 2), "checkpoint": done[-1] if done else None})
    if (cut / "config.yaml").is_file():
        subprocess.run(command("--resume", str(cut)), env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
    else:
        subprocess.run(
            command(scenario, "--out", str(cut), *options), env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True
        )
    one, two = fingerprint(folder / "whole"), fingerprint(cut)
    return {
        "kills": moments,
        "metrics": len(one["metrics"]),
        "files": len(one["files"]),
        "metrics identical": one["metrics"] == two["metrics"],
        "files identical": one["files"] == two["files"],
    }


def main() -> None:
    """Run the experiment and write its result; exit 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="miniature/quickstart")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = experiment(arguments.scenario, arguments.set, arguments.kills, arguments.seed, Path(folder))
    result = {
        "command": f"python benchmarks/kill_resume.py --kills {arguments.kills} --seed {arguments.seed}",
        **result,
    }
    print(json.dumps(result, indent=1))
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "kill_resume.json").write_text(json.dumps(result, indent=1) + "\n")
    if not (result["metrics identical"] and result["files identical"]):
        sys.exit("the resumed run differs from the undisturbed one")


if __name__ == "__main__":
    main()
