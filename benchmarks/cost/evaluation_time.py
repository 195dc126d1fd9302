"""Compare the fast evaluation of a scenario's clients with the plain one: time and choices.

  python -m benchmarks.cost.evaluation_time [--pairs 5] [--threads 1] [--scenario reference/hetero]
  python -m benchmarks.cost.evaluation_time --against ../before

One client of each architecture is evaluated on the tasks of all clients, as in a round of the
scenario: ``evaluation.fast`` on against off. The adapters and gates of the clients are random, as
if they were trained. The first evaluation of each kind, which reads the items and computes the
features of their images, is not counted.

The machine may be busy with other work. Evaluations therefore alternate (plain, fast, fast, plain,
…), and the result is the median of the ratios of neighbours: of wall time, and of processor time,
which waiting for a core does not change. The scores and choices of both kinds must be equal. The
log-likelihoods of options, each less that of the first option, are compared with one another and
with those in float64: the error of the fast ones may be 1.5 times that of the plain ones. A
scenario whose models are not installed is left out. With ``--against``, the evaluation by another
version in that folder is measured in the same turns, and the targets are those of the ratio to it.
Writes results/evaluation_time.json; the exit status is 1 if a target is missed or results differ.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.cost.exact_scores import differences, error, in_double
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import FedMosaicError
from fedmosaic.evaluation import Record, likelihood
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.resources import hold_freed_memory
from fedmosaic.federation.runtime import Runtime
from fedmosaic.seeding import generator

TARGETS = {"miniature/hetero": 3.0, "reference/hetero": 2.0}
"""How many times as fast the evaluation shall be."""

LARGEST_ERROR = 1.5
"""Most that the error of the fast log-likelihoods may be, in errors of the plain ones."""

SIZE = 0.01
"""Standard deviation of what is added to each adapter's first values."""


def clients_of(scenario: str, fast: bool) -> dict[str, LocalClient]:
    """Return the first client of each architecture, by model, with random adapters."""
    # An alignment changes the values of A and B, not the time; it would take minutes.
    overrides = [f"evaluation.fast={str(fast).lower()}", "alignment.method=none"]
    loaded = load_scenario(scenario, overrides)
    runtime = Runtime(RunSettings(name=scenario, scenario=loaded))
    found: dict[str, LocalClient] = {}
    for spec in runtime.scenario.clients:
        if spec.model not in found:
            client = found[spec.model] = LocalClient(runtime, spec)
            draw = generator(0, "evaluation time", spec.name)
            client._adapters = {
                key: value + SIZE * torch.randn(value.shape, generator=draw)
                for key, value in client.adapted.fresh.items()
            }
    return found


def evaluate(client: LocalClient) -> tuple[float, float, list[Record]]:
    """Return wall time and processor time of one evaluation in seconds, and its records."""
    items = client.runtime.scenario.evaluation.items
    with client.turn():
        wall, processor = time.perf_counter(), time.process_time()
        records = client._evaluate(Instructions(round=0, items=items), "after")
        return time.perf_counter() - wall, time.process_time() - processor, records


def scores(client: LocalClient) -> list[list[float]]:
    """Return the log-likelihoods of each question's options, less that of its first option."""
    found: list[list[float]] = []
    questions: Any = likelihood.Questions
    choose = questions.choose

    def collect(asked: Any, model: Any) -> Any:
        found.extend([score - own[0] for score in own] for own in asked.scores(model))
        return choose(asked, model)

    questions.choose = collect
    try:
        evaluate(client)
    finally:
        questions.choose = choose
    return found


def compare_scores(plain: LocalClient, fast: LocalClient) -> dict[str, Any]:
    """Return how far the log-likelihoods differ from one another and from float64's.

    Differences that are no larger than the plain ones' from float64 are rounding in float32.
    """
    one, other = scores(plain), scores(fast)
    with in_double(plain.adapted.model):
        exact = scores(plain)
    found = differences(one, other)
    return {
        "questions": len(one),
        "other_choices": sum(
            a.index(max(a)) != b.index(max(b)) for a, b in zip(one, other, strict=True)
        ),
        "largest_difference": max(found),
        "median_difference": statistics.median(found),
        "error_of_plain": error(one, exact),
        "error_of_fast": error(other, exact),
    }


class Before:
    """Evaluate with another version, in a process of its own.

    Args:
        tree: a checkout of that version.
        scenario: the scenario.
    """

    def __init__(self, tree: Path, scenario: str) -> None:
        program = Path(__file__).with_name("evaluation_before.py").read_text()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(tree / "src")},
            text=True,
        )
        self._write(scenario)
        self._write(str(torch.get_num_threads()))

    def evaluate(self, model: str) -> tuple[float, float]:
        """Return wall time and processor time of one evaluation in seconds."""
        self._write(model)
        assert self.process.stdout is not None
        wall, processor = json.loads(self.process.stdout.readline())
        return wall, processor

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


def same_values(one: Sequence[Record], other: Sequence[Record]) -> bool:
    """Return whether two evaluations have the same scores."""
    return [(r.task, r.value, r.n) for r in one] == [(r.task, r.value, r.n) for r in other]


def compare(scenario: str, pairs: int, tree: Path | None) -> dict[str, Any]:
    """Alternate evaluations of one client of each architecture: plain, fast and those of a tree."""
    plain, fast = clients_of(scenario, False), clients_of(scenario, True)
    other = Before(tree, scenario) if tree else None
    against = "before" if other else "plain"
    rows: dict[str, Any] = {}
    for model in plain:
        likelihoods = compare_scores(plain[model], fast[model])
        times: dict[str, list[tuple[float, float]]] = {"plain": [], "fast": [], "before": []}
        equal = True
        if other:
            other.evaluate(model)  # reads the items
        for pair in range(pairs):
            found = {}
            for kind in ("plain", "fast") if pair % 2 else ("fast", "plain"):
                *seconds, found[kind] = evaluate((fast if kind == "fast" else plain)[model])
                times[kind].append((seconds[0], seconds[1]))
            if other:
                times["before"].append(other.evaluate(model))
            equal = equal and same_values(found["plain"], found["fast"])
        rows[model] = {
            name: {
                "times_as_fast": median_ratio(times, against, which),
                "times_as_fast_as_plain": median_ratio(times, "plain", which),
                **{
                    f"seconds_{kind}": round(statistics.median(t[which] for t in values), 3)
                    for kind, values in times.items()
                    if values
                },
            }
            for which, name in enumerate(("wall", "processor"))
        } | {"same_scores": equal, "likelihoods": likelihoods}
        print(scenario, model, json.dumps(rows[model]), flush=True)
    target = {"target": TARGETS.get(scenario), "against": against}
    return {**target, "overall": overall(rows, against), "models": rows}


def median_ratio(
    times: Mapping[str, Sequence[tuple[float, float]]], against: str, which: int
) -> float:
    """Return the median over the turns of how many times as fast as another kind ``fast`` is."""
    turns = zip(times[against], times["fast"], strict=True)
    return round(statistics.median(a[which] / b[which] for a, b in turns), 2)


def overall(rows: dict[str, Any], against: str) -> dict[str, float]:
    """Return how many times as fast a client of each architecture is, taken together."""
    return {
        name: round(
            sum(row[name][f"seconds_{against}"] for row in rows.values())
            / sum(row[name]["seconds_fast"] for row in rows.values()),
            2,
        )
        for name in ("wall", "processor")
    }


def passed(row: dict[str, Any]) -> bool:
    """Return whether a scenario meets its target with equal choices and no larger error."""
    return row["overall"]["wall"] >= (row["target"] or 0) and all(
        model["same_scores"]
        and not model["likelihoods"]["other_choices"]
        and times_the_error(model["likelihoods"]) <= LARGEST_ERROR
        for model in row["models"].values()
    )


def times_the_error(likelihoods: dict[str, Any]) -> float:
    """Return the error of the fast log-likelihoods over that of the plain ones."""
    fast, plain = (likelihoods[f"error_of_{kind}"] for kind in ("fast", "plain"))
    return float(fast["root_mean_square"] / plain["root_mean_square"])


def main() -> int:
    """Measure and write the result; return 1 if a target is missed or results differ."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--scenario", nargs="+", default=list(TARGETS), help="default: %(default)s")
    parser.add_argument("--against", type=Path, help="folder with another version's checkout")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    hold_freed_memory()  # as a run does
    rows: dict[str, Any] = {}
    for scenario in options.scenario:
        try:
            rows[scenario] = compare(scenario, options.pairs, options.against)
        except FedMosaicError as error:
            print(f"{scenario} is left out: {error}")
    result = {
        "command": f"python -m benchmarks.cost.evaluation_time --pairs {options.pairs} "
        f"--threads {options.threads} --scenario {' '.join(rows)}"
        + (" --against FOLDER" if options.against else ""),
        "seeds": [0],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": options.threads,
            "load_average": round(os.getloadavg()[0], 1),
        },
        "scenarios": rows,
    }
    write_result("evaluation_time", result, indent=2)
    met = bool(rows) and all(map(passed, rows.values()))
    print("targets met" if met else "TARGETS MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
