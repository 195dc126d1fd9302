"""Fast adaptation: how soon the clients of the evidence's runs learn the seven tasks that none of them trained on.

Run:  python -m benchmarks.accuracy.evidence static --only sft fedavg fedsim fedmosaic alone beside --pretraining 0
      (20 minutes on 2 cores)
      python -m benchmarks.accuracy.adaptation      (25 minutes on 2 cores; the same command goes on)

``fedmosaic adapt`` on the runs with seeds 0, 1, 2: one client of each architecture, the benchmark's unseen tasks, 50 local steps each, 50
test items a task. Every algorithm learns at its own rate, which it chose in the evidence. So beside them stand the same algorithms from
untrained adapters: what a run has made of its clients is the difference to these, for *alone* and *beside* to FedMosaic's, which are
theirs. *Received*: from what the server would send a client next, in place of its own adapter; FedAvg begins so anyway. Mean over clients
and tasks, 95 % t-intervals over seeds, paired by seed. Writes results/adaptation.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fedmosaic
from benchmarks.accuracy.evidence import SEEDS
from benchmarks.common.marks import put
from benchmarks.common.paths import RESULTS
from benchmarks.common.tables import shown
from fedmosaic.experiments.adaptation import ADAPTED, FRESH, RECEIVED, mean_curve
from fedmosaic.experiments.statistics import interval, paired
from fedmosaic.experiments.variants import slug
from fedmosaic.miniature.benchmark.load import unseen_names

# With the algorithm whose untrained adapters a row is compared with: variants of FedMosaic begin and learn as it does.
LABELS = {
    "sft": "sft",
    "fedavg": "fedavg",
    "fedsim": "fedsim",
    "fedmosaic": "fedmosaic",
    "alone": "fedmosaic",
    "beside": "fedmosaic",
}
CLIENTS = ("client-0", "client-1", "client-3")  # one of each architecture
EVERY, POINTS, ITEMS = 10, 5, 50
RECEIVING = (
    "fedsim",
    "fedmosaic",
    "beside",
)  # algorithms that keep an adapter of their own beside what they receive
STEPS = [str(EVERY * point) for point in range(POINTS + 1)]
HEAD = ("| | " + " | ".join(STEPS) + " |", "|---|" + "---|" * len(STEPS))
Curves = Mapping[str, Mapping[str, Sequence[float]]]  # accuracy in percent by label, seed and point


def named(label: str, kind: str) -> str:
    """The row of an algorithm from one of the three starts."""
    return label + {ADAPTED: "", RECEIVED: ", received", FRESH: ", untrained"}[kind]


def untrained() -> dict[str, str]:
    """By row: the one of the same from untrained adapters."""
    rows = {label: named(by, FRESH) for label, by in LABELS.items()}
    return rows | {named(label, RECEIVED): rows[label] for label in RECEIVING}


def measured(folder: Path, label: str) -> dict[str, Any]:
    """The curves of a run."""
    tasks = [f"miniature/{name}" for name in unseen_names()]
    return fedmosaic.adapt(
        folder, tasks=tasks, clients=CLIENTS, every=EVERY, points=POINTS, items=ITEMS,
        fresh=label in LABELS.values(), received=label in RECEIVING,
    )  # fmt: skip


def curves(runs: Path, seeds: Sequence[int], jobs: int) -> dict[str, dict[str, list[float]]]:
    """What every run's clients learn."""
    found: dict[str, dict[str, list[float]]] = {
        label: {} for label in (*untrained(), *untrained().values())
    }
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        started = {
            (label, seed): pool.submit(
                measured, runs / "static-0" / slug(label) / f"seed-{seed}", label
            )
            for seed in seeds
            for label in LABELS
        }
        for (label, seed), future in started.items():
            content = future.result()
            for kind in (ADAPTED, RECEIVED, FRESH):
                if content[kind]:
                    found[named(label, kind)][str(seed)] = [
                        round(100 * value, 3) for value in mean_curve(content[kind])
                    ]
            print(f"{label}, seed {seed}: {found[label][str(seed)]}", flush=True)
    return found


def by_point(found: Curves) -> dict[str, list[dict[int, float]]]:
    """By label: for every point the accuracies by seed."""
    return {
        label: [
            {int(seed): values[point] for seed, values in seeds.items()}
            for point in range(POINTS + 1)
        ]
        for label, seeds in found.items()
    }


def short_table(found: Curves) -> str:
    """The curves, mean and interval at every point; for the README, too."""
    lines = list(HEAD)
    for label, points in by_point(found).items():
        lines.append(
            f"| {label} | "
            + " | ".join(shown(interval(list(each.values()))) for each in points)
            + " |"
        )
    return "\n".join(lines)


def table(found: Curves, command: str) -> str:
    """The result in Markdown."""
    columns = by_point(found)
    lines = [
        "# Fast adaptation", "",
        f"Made by `{command}`, which tells what is run; all figures in `adaptation.json`. Accuracy in percent on unseen tasks of the "
        "miniature benchmark after so many local steps, mean ± half of a 95 % t-interval over seeds.", "",
        short_table(found),
    ]  # fmt: skip
    against = {"the same from untrained adapters": untrained()}
    against["*sft*"] = {label: "sft" for label in untrained() if label != "sft"}
    against["*alone*"] = {label: "alone" for label in ("fedmosaic", "beside")}
    for name, others in against.items():
        lines += ["", f"Minus {name}, paired:", "", *HEAD]
        for label, other in others.items():
            gaps = [
                paired(each, base)
                for each, base in zip(columns[label], columns[other], strict=True)
            ]
            lines.append(f"| {label} | " + " | ".join(shown(gap, "+") for gap in gaps) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/evidence"),
        help="where evidence.py's comparisons are",
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    command, seeds = "python -m benchmarks.accuracy.adaptation", SEEDS[0]
    found = curves(arguments.runs, seeds, arguments.jobs)
    text = table(found, command)
    (RESULTS / "adaptation.json").write_text(
        json.dumps({"command": command, "curves": found}, indent=1) + "\n"
    )
    (RESULTS / "adaptation.md").write_text(text)
    put("adaptation", short_table(found))
    print(text)


if __name__ == "__main__":
    main()
