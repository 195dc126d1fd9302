"""Measure one whole run: its length, the framework's own share, memory, RELA's groups.

  python -m benchmarks.cost.full_run

The framework's overhead is everything except forward pass, backward pass, optimiser step,
signature and evaluation: data, messages, checks, aggregation, checkpoints. Writes
results/full_run.json.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fedmosaic
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from fedmosaic.federation.callbacks import Callback


class Memory(Callback):
    """Record the resident memory of this process after every round.

    Attributes:
        megabytes: one value a round, with one digit after the point.
    """

    def __init__(self) -> None:
        """Start with no value."""
        self.megabytes: list[float] = []

    def round_finished(
        self, round_number: int, entry: Mapping[str, Any], records: Sequence[Any]
    ) -> None:
        """Add the memory after a round."""
        self.megabytes.append(resident_memory())


def resident_memory() -> float:
    """Return the resident memory of this process in MB, with one digit after the point."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6, 1)


def similarity_of_groups(
    lines: Sequence[Mapping[str, Any]], group: Mapping[str, str]
) -> dict[str, float]:
    """Return the mean similarity of signatures within and between groups.

    Args:
        lines: the run's metrics; the second half of the rounds counts.
        group: the group of each client.
    """
    found = [line["relevance"] for line in lines if line["kind"] == "round" and "relevance" in line]
    same: list[float] = []
    different: list[float] = []
    for relevance in found[len(found) // 2 :]:
        names = relevance["clients"]
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                if i != j:
                    values = same if group[one] == group[other] else different
                    values.append(relevance["similarity"][i][j])
    inside, outside = statistics.mean(same), statistics.mean(different)
    return {
        "same group": round(inside, 4),
        "different groups": round(outside, 4),
        "margin": round(inside - outside, 4),
    }


def overhead_of(lines: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]) -> float:
    """Return the seconds of a run that are neither training, signatures nor evaluation."""
    computing: float = sum(
        line["parts"].get(part, 0.0)
        for line in lines
        if line["kind"] == "client"
        for part in ("compute", "tower", "hook")
    )
    return seconds["total"] - computing - seconds["evaluate"]


def overhead_parts(
    lines: Sequence[Mapping[str, Any]], seconds: Mapping[str, float], overhead: float
) -> dict[str, float]:
    """Return the seconds of the overhead by what they were spent on.

    Args:
        lines: the run's metrics.
        seconds: the run's seconds, as its summary has them.
        overhead: the whole overhead in seconds.
    """
    turns = [line for line in lines if line["kind"] == "client"]
    found = {
        "data": sum(line["parts"].get("data", 0.0) for line in turns),
        "messages of clients": sum(
            line["seconds"]["receive"] + line["seconds"]["upload"] for line in turns
        ),
        "server": seconds["server"],
        "checkpoints": seconds["checkpoint"],
    }
    found["checks, metrics and rest"] = overhead - sum(found.values())
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    """Run, measure and write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--scenario", default="miniature/hetero", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
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
        metrics = (run.folder / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in metrics]
    seconds = run.summary["seconds"]
    overhead = overhead_of(lines, seconds)
    scenario = fedmosaic.load_scenario(arguments.scenario)
    result = {
        "command": "python -m benchmarks.cost.full_run "
        f"--scenario {arguments.scenario} --seed {arguments.seed}",
        "rounds": scenario.rounds,
        "clients": len(scenario.clients),
        "seconds": {key: round(value, 1) for key, value in seconds.items()},
        "overhead": {
            "seconds": round(overhead, 1),
            "share": round(overhead / seconds["total"], 4),
            "parts": overhead_parts(lines, seconds, overhead),
        },
        "memory_mb": memory.megabytes,
        "similarity": similarity_of_groups(
            lines, {client.name: client.group for client in scenario.clients}
        ),
    }
    print(json.dumps(result, indent=1))
    write_result("full_run", result)


if __name__ == "__main__":
    main()
