"""One whole run of the miniature benchmark: how long, how much of it is the framework's own, memory over the rounds, RELA's groups.

    python -m benchmarks.cost.full_run

Framework overhead is everything that is not forward pass, backward pass, optimiser step, signature or evaluation: data, messages, checks,
aggregation, checkpoints. The result is ``benchmarks/results/full_run.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fedmosaic
from benchmarks.common.paths import RESULTS
from fedmosaic.federation.callbacks import Callback


class Memory(Callback):
    """Resident memory of this process after every round, in MB."""

    def __init__(self) -> None:
        self.megabytes: list[float] = []

    def round_finished(self, round: int, entry: Mapping[str, Any], records: Sequence[Any]) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.megabytes.append(round_to(pages * 4096 / 1e6))


def round_to(value: float) -> float:
    """One digit after the point."""
    return float(f"{value:.1f}")


def groups(lines: Sequence[Mapping[str, Any]], group: Mapping[str, str]) -> dict[str, float]:
    """Mean signature similarity within and between groups, over the second half of the rounds."""
    found = [line["relevance"] for line in lines if line["kind"] == "round" and "relevance" in line]
    within: list[float] = []
    between: list[float] = []
    for relevance in found[len(found) // 2 :]:
        names = relevance["clients"]
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                if i != j:
                    same = group[one] == group[other]
                    (within if same else between).append(relevance["similarity"][i][j])
    inside, outside = statistics.mean(within), statistics.mean(between)
    return {
        "within": round(inside, 4),
        "between": round(outside, 4),
        "margin": round(inside - outside, 4),
    }


def main() -> None:
    """Run, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="miniature/hetero")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    memory = Memory()
    with tempfile.TemporaryDirectory() as folder:
        run = fedmosaic.run(
            arguments.scenario,
            seed=arguments.seed,
            out=Path(folder) / "run",
            workers=1,
            callbacks=[memory],
            trackers=(),
        )
        lines = [
            json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()
        ]
    turns = [line for line in lines if line["kind"] == "client"]
    seconds = run.summary["seconds"]
    computing = sum(
        line["parts"].get(part, 0.0) for line in turns for part in ("compute", "tower", "hook")
    )
    overhead = seconds["total"] - computing - seconds["evaluate"]
    scenario = fedmosaic.load_scenario(arguments.scenario)
    result = {
        "command": f"python -m benchmarks.cost.full_run --scenario {arguments.scenario} --seed {arguments.seed}",
        "rounds": scenario.rounds,
        "clients": len(scenario.clients),
        "seconds": {key: round(value, 1) for key, value in seconds.items()},
        "overhead": {"seconds": round(overhead, 1), "share": round(overhead / seconds["total"], 4)},
        "memory_mb": memory.megabytes,
        "similarity": groups(lines, {client.name: client.group for client in scenario.clients}),
    }
    print(json.dumps(result, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "full_run.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
