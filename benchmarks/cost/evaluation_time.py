"""Compare the fast evaluation of a scenario's clients with the plain one: time and choices.

  python -m benchmarks.cost.evaluation_time [--pairs 5] [--threads 1] [--scenario reference/hetero]

One client of each architecture is evaluated on the tasks of all clients, as in a round of the
scenario: ``evaluation.fast`` on against off. The adapters and gates of the clients are random, as
if they were trained. The first evaluation of each kind, which reads the items and computes the
features of their images, is not counted.

The machine may be busy with other work. Evaluations therefore alternate (plain, fast, fast, plain,
…), and the result is the median of the ratios of neighbours: of wall time, and of processor time,
which waiting for a core does not change. The scores and choices of both kinds must be equal; the
largest difference of an option's log-likelihood from that of the first option is reported. A
scenario whose models are not installed is left out. Writes results/evaluation_time.json; the exit
status is 1 if a target is missed or a choice differs.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import FedMosaicError
from fedmosaic.evaluation import Record, likelihood
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.seeding import generator

TARGETS = {"miniature/hetero": 3.0, "reference/hetero": 2.0}
"""How many times as fast the evaluation shall be."""

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
    """Return how far the log-likelihoods differ, and how many choices do."""
    pairs = list(zip(scores(plain), scores(fast), strict=True))
    differences = [abs(one - other) for a, b in pairs for one, other in zip(a, b, strict=True)]
    return {
        "questions": len(pairs),
        "other_choices": sum(a.index(max(a)) != b.index(max(b)) for a, b in pairs),
        "largest_difference": max(differences),
        "median_difference": statistics.median(differences),
    }


def same_values(one: Sequence[Record], other: Sequence[Record]) -> bool:
    """Return whether two evaluations have the same scores."""
    return [(r.task, r.value, r.n) for r in one] == [(r.task, r.value, r.n) for r in other]


def compare(scenario: str, pairs: int) -> dict[str, Any]:
    """Alternate plain and fast evaluations of one client of each architecture."""
    plain, fast = clients_of(scenario, False), clients_of(scenario, True)
    rows: dict[str, Any] = {}
    for model in plain:
        likelihoods = compare_scores(plain[model], fast[model])
        times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        equal = True
        for pair in range(pairs):
            found = {}
            for kind in (False, True) if pair % 2 else (True, False):
                *seconds, found[kind] = evaluate((fast if kind else plain)[model])
                times[kind].append((seconds[0], seconds[1]))
            equal = equal and same_values(found[False], found[True])
        rows[model] = {
            name: {
                "times_as_fast": round(
                    statistics.median(
                        a[which] / b[which] for a, b in zip(times[False], times[True], strict=True)
                    ),
                    2,
                ),
                "seconds_plain": round(statistics.median(t[which] for t in times[False]), 3),
                "seconds_fast": round(statistics.median(t[which] for t in times[True]), 3),
            }
            for which, name in enumerate(("wall", "processor"))
        } | {"same_scores": equal, "likelihoods": likelihoods}
        print(scenario, model, json.dumps(rows[model]), flush=True)
    return {"target": TARGETS.get(scenario), "overall": overall(rows), "models": rows}


def overall(rows: dict[str, Any]) -> dict[str, float]:
    """Return how many times as fast a client of each architecture is, taken together."""
    return {
        name: round(
            sum(row[name]["seconds_plain"] for row in rows.values())
            / sum(row[name]["seconds_fast"] for row in rows.values()),
            2,
        )
        for name in ("wall", "processor")
    }


def passed(row: dict[str, Any]) -> bool:
    """Return whether a scenario meets its target, with the same scores and choices."""
    return row["overall"]["wall"] >= (row["target"] or 0) and all(
        model["same_scores"] and not model["likelihoods"]["other_choices"]
        for model in row["models"].values()
    )


def main() -> int:
    """Measure and write the result; return 1 if a target is missed or a choice differs."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--scenario", nargs="+", default=list(TARGETS), help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: dict[str, Any] = {}
    for scenario in options.scenario:
        try:
            rows[scenario] = compare(scenario, options.pairs)
        except FedMosaicError as error:
            print(f"{scenario} is left out: {error}")
    result = {
        "command": f"python -m benchmarks.cost.evaluation_time --pairs {options.pairs} "
        f"--threads {options.threads} --scenario {' '.join(rows)}",
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
