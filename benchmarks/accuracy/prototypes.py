"""Measure what prototypes of prompts reveal, and what noise on them costs.

  python -m benchmarks.accuracy.prototypes       half an hour on 2 cores; the same command continues

Noise has the standard deviation σ √k in each coordinate of the k prototypes (``routing.noise_std``
is σ). Three measurements:

  routing     the tasks of miniature/hetero, without training, on both pretrainings: which share of
              a client's own test inputs it keeps, and which share of other clients' test inputs it
              gives to an owner of their task. Every client has the prototypes of every other one.
  membership  the same clients: an attacker who has the shared model guesses from the distance to
              the nearest published prototype whether a prompt was trained on. Members are a
              client's training prompts, the others test prompts of the same tasks. Area under the
              ROC curve (50 % is guessing), and true positives at 1 % false positives. Also for
              clients with 4 and 16 prompts in all, drawn from theirs.
  accuracy    ``experts`` on miniature/homo-llama, trained as in benchmarks.accuracy.evidence: its
              finished runs are evaluated with other noise on the prototypes that clients hold.
              Noise changes no training.

Seeds of k-means, noise and draws: 0, 1, 2 on the first pretraining, 3, 4 on the second; runs with
seeds 0, 1, 2, and three draws of the noise each. 95 % t-intervals are over seeds. Writes
results/prototypes.json and prototypes.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import fedmosaic
from benchmarks.accuracy.evidence_parts import HOMOGENEOUS, SEEDS, STATIC, scenario
from benchmarks.accuracy.prototypes_accuracy import rerouted
from benchmarks.accuracy.prototypes_attack import attacked
from benchmarks.accuracy.prototypes_page import page
from benchmarks.accuracy.prototypes_prompts import (
    ClientPrompts,
    centres_of,
    prompts_of,
    published,
    routed,
)
from benchmarks.common.arguments import add_run_arguments, benchmark_parser
from benchmarks.common.paths import write_result
from fedmosaic.experiments.variants import Variant

NOISES = (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
TRAINED_NOISES = (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 0.1, 1.0)
COUNTS = (4, 16, 64)
FEW = (4, 16)
COMMAND = "python -m benchmarks.accuracy.prototypes"
Values = dict[str, dict[str, dict[str, float]]]  # by k and σ, measure and seed, in percent


def without_training(
    clients: Sequence[ClientPrompts], seed: int, routing: Values, members: Values
) -> None:
    """Add the routing quality and the membership test of one seed."""
    few = {most: [one.with_prompts(most, seed) for one in clients] for most in FEW}
    for count in COUNTS:
        centres = centres_of(clients, count, seed)
        of_few = {most: centres_of(some, count, seed) for most, some in few.items()}
        for noise in NOISES:
            key = f"k = {count}, σ = {noise:g}"
            sent = published(centres, noise, seed)
            _add(routing, key, seed, routed(clients, centres, sent))
            _add(members, f"all prompts, {key}", seed, attacked(clients, sent))
            for most, some in few.items():
                found = attacked(some, published(of_few[most], noise, seed))
                _add(members, f"{most} prompts, {key}", seed, found)


def _add(values: Values, key: str, seed: int, found: Mapping[str, float]) -> None:
    for measure, value in found.items():
        values.setdefault(key, {}).setdefault(measure, {})[str(seed)] = round(100 * value, 3)


def untrained() -> dict[str, Values]:
    """Return the routing quality and the membership test of all seeds."""
    found: dict[str, Values] = {"routing": {}, "membership": {}}
    for pretraining, seeds in SEEDS.items():
        clients = prompts_of(scenario(STATIC, pretraining))
        for seed in seeds:
            without_training(clients, seed, found["routing"], found["membership"])
            print(f"routing and membership, seed {seed}", flush=True)
    return found


def stored(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a file holds; without the file, make it."""
    if not path.is_file():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def make_runs(runs: Path, seeds: Sequence[int], jobs: int) -> dict[int, Path]:
    """Make the runs that are missing, and return the folder of each seed's."""
    variants = [Variant("experts", "experts", ("routing.noise_std=0",))]
    out = runs / f"{HOMOGENEOUS}-0"
    made = scenario(HOMOGENEOUS, 0)
    fedmosaic.compare(made, algorithms=variants, seeds=seeds, out=out, jobs=jobs)
    return {seed: out / "experts" / f"seed-{seed}" for seed in seeds}


def main() -> None:
    """Measure everything and write the result."""
    parser = benchmark_parser(__doc__)
    add_run_arguments(parser, "runs/prototypes", jobs=2, table=False)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=SEEDS[0], help="seeds of the trained runs"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    runs = arguments.runs
    content: dict[str, Any] = {"command": COMMAND, **stored(runs / "untrained.json", untrained)}
    accuracy: Values = {}
    for seed, folder in make_runs(runs, arguments.seeds, arguments.jobs).items():
        found = stored(runs / f"accuracy-{seed}.json", partial(rerouted, folder, TRAINED_NOISES))
        for key, values in found.items():
            _add(accuracy, key, seed, values)
        print(f"accuracy, seed {seed}", flush=True)
    content["accuracy"] = accuracy
    write_result("prototypes", content, page(content))
    print(page(content))


if __name__ == "__main__":
    main()
