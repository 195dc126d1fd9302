"""Measure how fast clients of finished runs learn seven tasks that none of them trained on.

  python -m benchmarks.accuracy.adaptation       45 minutes on 2 cores; the same command continues

Makes runs with seeds 0, 1, 2 as in the static part of benchmarks.accuracy.evidence, in 20 minutes,
unless they are there. Applies ``fedmosaic adapt`` to them: one client of each architecture, the
benchmark's unseen tasks, 50 local steps each, 50 test items a task. Every algorithm uses the
learning rate that it chose in the published evidence.

Rows, for each algorithm:

  <algorithm>              continues from the client's adapters of the finished run
  <algorithm>, received    continues from what the server would send next, in place of the
                           client's own adapter (FedAvg always begins so)
  <algorithm>, untrained   starts from untrained adapters at the same rate; FedMosaic's variants
                           share FedMosaic's

Values are means over clients and tasks; 95 % t-intervals are over seeds, paired by seed. Writes
results/adaptation.json and adaptation.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fedmosaic
from benchmarks.accuracy.evidence_parts import SEEDS, STATIC, scenario
from benchmarks.accuracy.evidence_published import published_variants
from benchmarks.accuracy.evidence_rows import (
    ADDITIVE,
    LOCAL,
    NO_COMMUNICATION,
)
from benchmarks.common.arguments import add_run_arguments, benchmark_parser
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import write_result
from benchmarks.common.tables import format_interval, table_head, table_row
from fedmosaic.experiments.adaptation import ADAPTED, FRESH, RECEIVED, mean_curve
from fedmosaic.experiments.statistics import interval, paired
from fedmosaic.experiments.variants import slug
from fedmosaic.miniature.benchmark.load import unseen_names

# The algorithm whose untrained adapters a row is compared with.
UNTRAINED_AS = {
    LOCAL: LOCAL,
    "fedavg": "fedavg",
    "fedsim": "fedsim",
    "fedmosaic": "fedmosaic",
    NO_COMMUNICATION: "fedmosaic",
    ADDITIVE: "fedmosaic",
}
CLIENTS = ("client-0", "client-1", "client-3")  # one of each architecture
EVERY, POINTS, ITEMS = 10, 5, 50
# Algorithms whose clients hold an adapter of their own and what they receive.
RECEIVING = ("fedsim", "fedmosaic", ADDITIVE)
STEPS = [str(EVERY * point) for point in range(POINTS + 1)]
HEAD = table_head("local steps", STEPS)
Curves = Mapping[str, Mapping[str, Sequence[float]]]  # accuracy in percent by label, seed and point


def row_label(label: str, start: str) -> str:
    """Return the row of an algorithm from one of the three starts."""
    return label + {ADAPTED: "", RECEIVED: ", received", FRESH: ", untrained"}[start]


def untrained_rows() -> dict[str, str]:
    """Return for each row the row of the same algorithm from untrained adapters."""
    rows = {label: row_label(by, FRESH) for label, by in UNTRAINED_AS.items()}
    return rows | {row_label(label, RECEIVED): rows[label] for label in RECEIVING}


def make_runs(runs: Path, seeds: Sequence[int], jobs: int) -> None:
    """Make the runs that are missing."""
    variants = [variant for variant in published_variants(STATIC) if variant.label in UNTRAINED_AS]
    fedmosaic.compare(
        scenario(STATIC, 0), algorithms=variants, seeds=seeds, out=runs / "static-0", jobs=jobs
    )


def adapt(folder: Path, label: str) -> dict[str, Any]:
    """Return the learning curves of the clients of one run."""
    return fedmosaic.adapt(
        folder,
        tasks=[f"miniature/{name}" for name in unseen_names()],
        clients=CLIENTS,
        every=EVERY,
        points=POINTS,
        items=ITEMS,
        fresh=label in UNTRAINED_AS.values(),
        received=label in RECEIVING,
    )


def curves(runs: Path, seeds: Sequence[int], jobs: int) -> dict[str, dict[str, list[float]]]:
    """Return the mean learning curve of every row and seed, in percent.

    Args:
        runs: folder of the comparison that made the runs.
        seeds: seeds of the runs.
        jobs: runs at a time.
    """
    rows = untrained_rows()
    found: dict[str, dict[str, list[float]]] = {label: {} for label in (*rows, *rows.values())}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        started = {
            (label, seed): pool.submit(
                adapt, runs / "static-0" / slug(label) / f"seed-{seed}", label
            )
            for seed in seeds
            for label in UNTRAINED_AS
        }
        for (label, seed), future in started.items():
            content = future.result()
            for start in (ADAPTED, RECEIVED, FRESH):
                if content[start]:
                    found[row_label(label, start)][str(seed)] = [
                        round(100 * value, 3) for value in mean_curve(content[start])
                    ]
            print(f"{label}, seed {seed}: {found[label][str(seed)]}", flush=True)
    return found


def values_by_point(found: Curves) -> dict[str, list[dict[int, float]]]:
    """Return for each row and point the accuracies by seed."""
    return {
        label: [
            {int(seed): values[point] for seed, values in seeds.items()}
            for point in range(POINTS + 1)
        ]
        for label, seeds in found.items()
    }


def short_table(found: Curves) -> str:
    """Return the mean and the interval of every row at every point."""
    lines = list(HEAD)
    for label, points in values_by_point(found).items():
        cells = [format_interval(interval(list(each.values()))) for each in points]
        lines.append(table_row([label, *cells]))
    return "\n".join(lines)


def table(found: Curves, command: str) -> str:
    """Return the whole result in Markdown."""
    points = values_by_point(found)
    rows = untrained_rows()
    references = {
        "the same algorithm from untrained adapters": rows,
        f"*{LOCAL}*": {label: LOCAL for label in rows if label != LOCAL},
        f"*{NO_COMMUNICATION}*": dict.fromkeys(("fedmosaic", ADDITIVE), NO_COMMUNICATION),
    }
    lines = [
        "# Fast adaptation",
        "",
        f"Made by `{command}`, whose docstring says what is run; all figures are in "
        "`adaptation.json`. Accuracy in percent on unseen tasks of the miniature benchmark after "
        "the given number of local steps: mean ± half-width of the 95 % t-interval over seeds.",
        "",
        short_table(found),
    ]
    for name, others in references.items():
        lines += ["", f"Difference to {name}, paired by seed:", "", *HEAD]
        for label, other in others.items():
            gaps = [
                format_interval(paired(mine, base), "+")
                for mine, base in zip(points[label], points[other], strict=True)
            ]
            lines.append(table_row([label, *gaps]))
    return "\n".join([*lines, ""])


def main() -> None:
    """Adapt the clients of all runs and write the result."""
    parser = benchmark_parser(__doc__)
    add_run_arguments(parser, "runs/adaptation", jobs=2, table=False)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    command = "python -m benchmarks.accuracy.adaptation"
    make_runs(arguments.runs, SEEDS[0], arguments.jobs)
    found = curves(arguments.runs, SEEDS[0], arguments.jobs)
    text = table(found, command)
    write_result("adaptation", {"command": command, "curves": found}, text)
    write_between_marks("adaptation", short_table(found))
    print(text)


if __name__ == "__main__":
    main()
