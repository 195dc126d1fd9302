"""Kill a run with SIGKILL at random moments, resume it, and compare it with an undisturbed run.

  python -m benchmarks.cost.kill_resume --kills 5 --seed 0

All metrics (timings aside), every checkpoint and every adapter must be equal, bit for bit. Writes
results/kill_resume.json.
"""

from __future__ import annotations

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

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
}
TIMINGS = ("seconds", "parts", "memory")


def run_command(*arguments: str) -> list[str]:
    """Return the command line of ``fedmosaic run`` in a process of its own."""
    return [sys.executable, "-m", "fedmosaic", "run", "--quiet", *arguments]


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return the metrics without timings, and the hash of every checkpoint and adapter file."""
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


def run_to_end(arguments: list[str], placed: Path) -> tuple[float, float]:
    """Run a command to its end.

    Args:
        arguments: those of ``fedmosaic run``.
        placed: the file that exists when models and data are loaded.

    Returns:
        The seconds until models and data are loaded, and those until the end.
    """
    started = time.perf_counter()
    process = subprocess.Popen(run_command(*arguments), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    while not placed.is_file() and process.poll() is None:
        time.sleep(0.01)
    loading = time.perf_counter() - started
    if process.wait():
        sys.exit(f"the undisturbed run failed with status {process.returncode}")
    return loading, time.perf_counter() - started


def run_and_kill(arguments: list[str], after: float, with_workers: bool) -> bool:
    """Run a command and kill it after some seconds.

    Args:
        arguments: those of ``fedmosaic run``.
        after: seconds until the kill.
        with_workers: whether the worker processes are killed, too. Otherwise they live on for a
            moment while the run is already resumed.

    Returns:
        False if the command ended before it could be killed.
    """
    process = subprocess.Popen(
        run_command(*arguments), env=ENVIRONMENT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        (os.killpg if with_workers else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def place_of_kill(folder: Path) -> str:
    """Return where in the run the kill happened, as the files of the run folder show it."""
    if not (folder / "config.yaml").is_file():
        return "before the run folder"
    if not (folder / "placement.json").is_file():
        return "before its settings were settled"
    done = max(
        (int(path.name[-4:]) for path in (folder / "checkpoints").glob("round-*")), default=0
    )
    if list((folder / "checkpoints").glob(".*")):
        return f"writing checkpoint {done + 1}"
    metrics = folder / "metrics.jsonl"
    rounds = 0
    if metrics.is_file():
        rounds = sum('"kind": "round"' in line for line in metrics.read_text().splitlines())
    return f"between metrics and checkpoint {rounds}" if rounds > done else f"in round {done}"


def experiment(
    scenario: str, settings: list[str], kills: int, seed: int, folder: Path
) -> dict[str, Any]:
    """Compare an undisturbed run with one that is killed and resumed several times.

    The moment of each kill is drawn between the start of the process and one and a half rounds
    after models and data are loaded. If a run ends before it is killed, everything starts over.

    Args:
        scenario: the scenario of both runs.
        settings: changed settings, ``key=value``.
        kills: number of kills.
        seed: seed of the moments.
        folder: empty folder for both runs.
    """
    options = [part for setting in settings for part in ("--set", setting)]
    whole, killed = folder / "whole", folder / "killed"
    loading, length = run_to_end(
        [scenario, "--out", str(whole), *options], whole / "placement.json"
    )
    rounds = len(fingerprint(whole)["rounds"])
    draw = random.Random(seed)
    deaths: list[dict[str, Any]] = []

    def arguments() -> list[str]:
        begun = (killed / "config.yaml").is_file()
        return ["--resume", str(killed)] if begun else [scenario, "--out", str(killed), *options]

    while len(deaths) < kills:
        after = draw.uniform(0.1 * loading, loading + 1.5 * (length - loading) / rounds)
        with_workers = draw.random() < 0.5
        if run_and_kill(arguments(), after, with_workers):
            place = place_of_kill(killed)
            deaths.append({"seconds": round(after, 2), "workers too": with_workers, "place": place})
        else:
            shutil.rmtree(killed)
            deaths.clear()
    run_to_end(arguments(), killed / "placement.json")
    one, two = fingerprint(whole), fingerprint(killed)
    return {
        "rounds": rounds,
        "seconds": {"undisturbed": round(length, 1), "loading": round(loading, 1)},
        "kills": deaths,
        "metrics": len(one["metrics"]),
        "files": len(one["files"]),
        "metrics identical": one["metrics"] == two["metrics"],
        "files identical": one["files"] == two["files"],
        "leftover files": sorted(path.name for path in [*killed.glob(".*"), *killed.glob("*/.*")]),
    }


def main() -> None:
    """Run the experiment and write its result; exit with 1 if anything differs."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--scenario", default="miniature/quickstart", help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], help="another setting of both runs")
    parser.add_argument("--kills", type=int, default=5, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the moments (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = experiment(
            arguments.scenario, arguments.set, arguments.kills, arguments.seed, Path(folder)
        )
    settings = "".join(f" --set {setting}" for setting in arguments.set)
    result = {
        "command": f"python -m benchmarks.cost.kill_resume --kills {arguments.kills} "
        f"--seed {arguments.seed}{settings}",
        "scenario": arguments.scenario,
        **found,
    }
    print(json.dumps(result, indent=1))
    write_result("kill_resume", result)
    if not (found["metrics identical"] and found["files identical"]) or found["leftover files"]:
        sys.exit("the resumed run differs from the undisturbed one, or left temporary files behind")


if __name__ == "__main__":
    main()
