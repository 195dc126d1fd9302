"""Fast adaptation: how soon the clients of the evidence's runs learn the seven tasks that none of them trained on.

Run:  python benchmarks/evidence.py static --only sft fedavg fedsim fedmosaic      (or all of it; half an hour on 2 cores)
      python benchmarks/adaptation.py      (40 minutes on 2 cores; the same command goes on)

``fedmosaic adapt`` on the runs of local training, FedAvg, FedSim and FedMosaic with seeds 0, 1, 2: one client of each architecture, the
benchmark's unseen tasks, 50 local steps each, 50 test items a task; and the same from untrained adapters under local training. Mean over
clients and tasks, 95 % t-intervals over seeds, differences to local training paired by seed. Writes results/adaptation.json and .md.
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

from evidence import SEEDS
from readme import put
from tables import shown

import fedmosaic
from fedmosaic.comparison.variants import slug
from fedmosaic.data.miniature.benchmark import unseen_names
from fedmosaic.evaluation.statistics import interval, paired
from fedmosaic.federation.adapt import ADAPTED, FRESH, mean_curve

RESULTS = Path(__file__).parent / "results"
LABELS = ("sft", "fedavg", "fedsim", "fedmosaic")
CLIENTS = ("client-0", "client-1", "client-3")  # one of each architecture
EVERY, POINTS, ITEMS = 10, 5, 50
UNTRAINED = "untrained adapters"
STEPS = [str(EVERY * point) for point in range(POINTS + 1)]
HEAD = ("| | " + " | ".join(STEPS) + " |", "|---|" + "---|" * len(STEPS))
Curves = Mapping[str, Mapping[str, Sequence[float]]]  # accuracy in percent by label, seed and point


def measured(folder: Path, fresh: bool) -> dict[str, Any]:
    """The curves of a run."""
    tasks = [f"miniature/{name}" for name in unseen_names()]
    return fedmosaic.adapt(folder, tasks=tasks, clients=CLIENTS, every=EVERY, points=POINTS, items=ITEMS, fresh=fresh)


def curves(runs: Path, seeds: Sequence[int], jobs: int) -> dict[str, dict[str, list[float]]]:
    """What every run's clients learn."""
    wanted = [(label, seed) for seed in seeds for label in LABELS]
    found: dict[str, dict[str, list[float]]] = {}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        started = {
            (label, seed): pool.submit(measured, runs / "static-0" / slug(label) / f"seed-{seed}", fresh=label == "sft")
            for label, seed in wanted
        }
        for (label, seed), future in started.items():
            content = future.result()
            for name, kind in ((label, ADAPTED), (UNTRAINED, FRESH)):
                if content[kind]:
                    points = [round(100 * value, 3) for value in mean_curve(content[kind])]
                    found.setdefault(name, {})[str(seed)] = points
            print(f"{label}, seed {seed}: {found[label][str(seed)]}", flush=True)
    return found


def by_point(found: Curves) -> dict[str, list[dict[int, float]]]:
    """By label: for every point the accuracies by seed."""
    return {
        label: [{int(seed): values[point] for seed, values in seeds.items()} for point in range(POINTS + 1)]
        for label, seeds in found.items()
    }


def short_table(found: Curves) -> str:
    """The curves, mean and interval at every point; for the README, too."""
    lines = list(HEAD)
    for label, points in by_point(found).items():
        lines.append(f"| {label} | " + " | ".join(shown(interval(list(each.values()))) for each in points) + " |")
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
    lines += ["", "Minus *sft*, paired:", "", *HEAD]
    for label, points in columns.items():
        if label != "sft":
            gaps = [paired(each, other) for each, other in zip(points, columns["sft"], strict=True)]
            lines.append(f"| {label} | " + " | ".join(shown(gap, "+") for gap in gaps) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"), help="where evidence.py's comparisons are")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    command, seeds = "python benchmarks/adaptation.py", SEEDS[0]
    found = curves(arguments.runs, seeds, arguments.jobs)
    text = table(found, command)
    (RESULTS / "adaptation.json").write_text(json.dumps({"command": command, "curves": found}, indent=1) + "\n")
    (RESULTS / "adaptation.md").write_text(text)
    put("adaptation", short_table(found))
    print(text)


if __name__ == "__main__":
    main()
