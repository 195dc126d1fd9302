"""Show where the time of whole runs goes, and compare it with another version's.

  python -m benchmarks.cost.profile
  python -m benchmarks.cost.profile --pairs 3 --against ../before --only miniature/quickstart

Every run is the command that a user gives, with the default number of workers, in a process of its
own. With ``--against``, the source tree of another folder runs the same in alternation, and the
ratio of this version's seconds to its seconds is given: the median of the pairs. ``--set`` changes
settings of both, ``--set-here`` only of this version. llama-1b is a language model of the shape of
Llama 3.2 1B with random weights in bfloat16: two clients, three steps, 3 GB of disk.

The seconds of clients are those of the processes that wait for them, divided in proportion to what
their lines of metrics.jsonl record. Writes results/profile.json and results/profile.md; cases that
were not run now stay there as they were.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import RESULTS, ROOT, write_result
from benchmarks.common.tables import table_head, table_row
from benchmarks.cost.profile_model import SCENARIO, random_llama

CASES = ("miniature/quickstart", "miniature/hetero", "reference/hetero", "llama-1b")
TIMES = ("total", "first turn")
SIDES = ("before", "after")
# In the order of the table. The names in quotes are those of metrics.jsonl.
TRAINING = {"data": "data", "tower": "images", "compute": "forward, backward", "hook": "signatures"}
ROWS = (
    "start of Python",
    "imports",
    "loading",
    "checks",
    "alignment",
    "start of clients",
    *TRAINING.values(),
    "rest of training",
    "evaluation",
    "messages",
    "server",
    "checkpoints",
    "other",
)


def shares_of_clients(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what share of the clients' time each row of the table has."""
    found: defaultdict[str, float] = defaultdict(float)
    for line in lines:
        if line["kind"] == "client":
            parts, seconds = line.get("parts", {}), line["seconds"]
            for name, row in TRAINING.items():
                found[row] += parts.get(name, 0.0)
            found["rest of training"] += max(0.0, seconds["train"] - sum(parts.values()))
            found["evaluation"] += seconds["evaluate"]
            found["messages"] += seconds["receive"] + seconds["upload"]
    total = sum(found.values()) or 1.0
    return {row: value / total for row, value in found.items()}


def rows_of(sampled: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of each row of the table.

    Args:
        sampled: what :mod:`benchmarks.cost.profile_samples` wrote.
        lines: the lines of the run's metrics.jsonl.
    """
    found: defaultdict[str, float] = defaultdict(float, sampled["phases"])
    clients = found.pop("clients", 0.0)
    for row, share in shares_of_clients(lines).items():
        found[row] += share * clients
    return {row: found.get(row, 0.0) for row in ROWS}


def measure(tree: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a command of one version; return its seconds: ``total``, ``first turn`` and ``rows``.

    Args:
        tree: a checkout of fedmosaic.
        arguments: those of ``fedmosaic``, without ``--out``.
    """
    program = f"{Path(__file__).with_name('profile_samples.py').read_text()}\nsys.exit(main())"
    with tempfile.TemporaryDirectory() as folder:
        result, out = Path(folder) / "samples.json", Path(folder) / "run"
        command = [sys.executable, "-P", "-c", program, str(result), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
        clock, began = time.perf_counter(), time.time()
        subprocess.run(
            [*command, "--out", str(out), "--quiet"],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        total = time.perf_counter() - clock
        sampled = json.loads(result.read_text())
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    start = sampled["started"] - began
    rows = rows_of(sampled, lines) | {"start of Python": start}
    rows["other"] += max(0.0, total - start - sampled["total"])
    return {"total": total, "first turn": start + sampled["first_turn"], "rows": rows}


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the median of every figure of several runs."""
    rows = {row: statistics.median(run["rows"][row] for run in runs) for row in ROWS}
    single = {name: statistics.median(run[name] for run in runs) for name in TIMES}
    return {
        **{name: round(value, 2) for name, value in single.items()},
        "rows": {row: round(value, 2) for row, value in rows.items()},
    }


def compared(
    case: str, arguments: Sequence[str], own: Sequence[str], against: Path | None, pairs: int
) -> dict[str, Any]:
    """Measure one case.

    Args:
        case: its name, for messages.
        arguments: those of ``fedmosaic`` for both versions.
        own: further arguments of this version.
        against: a checkout of the other version; None for no other.
        pairs: how often each is measured.
    """
    here, there = [], []
    for number in range(pairs):
        if against is not None:
            there.append(measure(against, arguments))
            print(f"{case} {number}: before {there[-1]['total']:.1f} s", flush=True)
        here.append(measure(ROOT, [*arguments, *own]))
        print(f"{case} {number}: after {here[-1]['total']:.1f} s", flush=True)
    result = {
        "measured_by": " ".join(["python -m benchmarks.cost.profile", *sys.argv[1:]]),
        "command": " ".join(["fedmosaic run", case, *arguments[2:], *own]),
        "pairs": pairs,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "after": medians(here),
    }
    if there:
        ratios = {
            name: round(
                statistics.median(a[name] / b[name] for a, b in zip(here, there, strict=True)), 3
            )
            for name in TIMES
        }
        result |= {"before": medians(there), "ratio": ratios}
    return result


def page(cases: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table as Markdown: seconds of each row, of all cases and versions."""
    columns = [(case, side) for case in cases for side in SIDES if side in cases[case]]
    lines = table_head("seconds", [f"{case}, {side}" for case, side in columns])
    for row in ROWS:
        lines.append(table_row([row, *(f"{cases[c][s]['rows'][row]:.2f}" for c, s in columns)]))
    for name in TIMES:
        lines.append(table_row([f"**{name}**", *(f"{cases[c][s][name]:.2f}" for c, s in columns)]))
        ratios = [f"{cases[c].get('ratio', {}).get(name, '')}" * (s == "after") for c, s in columns]
        if any(ratios):
            lines.append(table_row([f"{name}, ratio", *ratios]))
    return "\n".join(["# Where the time of a run goes", "", *lines, ""])


def main() -> None:
    """Measure the cases and write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--only", help=f"cases, by comma (default: {','.join(CASES)})")
    parser.add_argument("--pairs", type=int, default=1, help="times (default: %(default)s)")
    parser.add_argument("--against", type=Path, help="folder with another version's checkout")
    parser.add_argument("--set", action="append", default=[], help="a setting of both versions")
    parser.add_argument("--set-here", action="append", default=[], help="a setting of this version")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    given = parser.parse_args()
    common = [part for setting in given.set for part in ("--set", setting)]
    own = [part for setting in given.set_here for part in ("--set", setting)]
    against = given.against.resolve() if given.against else None
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in given.only.split(",") if given.only else CASES:
            scenario = case
            if case == "llama-1b":
                random_llama(Path(folder))
                scenario = str(Path(folder) / SCENARIO)
            arguments = ["run", scenario, "--seed", str(given.seed), *common]
            name = " ".join([case, *given.set_here])
            cases[name] = compared(case, arguments, own, against, given.pairs)
    stored = RESULTS / "profile.json"
    before = json.loads(stored.read_text())["cases"] if stored.exists() else {}
    found = before | cases
    merged = {
        name: found[name] for case in CASES for name in sorted(found) if name.split()[0] == case
    }
    text = page(merged)
    print(text)
    write_result("profile", {"cases": merged}, text)


if __name__ == "__main__":
    main()
