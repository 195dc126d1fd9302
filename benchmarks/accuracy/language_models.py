"""Federate two real pretrained language models of different families on text tasks.

  python -m benchmarks.accuracy.language_models            3 hours on 2 cores
  python -m benchmarks.accuracy.language_models --table    writes the result from finished runs
  python -m benchmarks.accuracy.language_models --small    one round of two clients; only prints

The models are SmolLM2 135M and Gemma 3 270M. Needs what the scenario ``reference/hetero`` needs:
``pip install 'fedmosaic[reference]'`` and the two models (see the head of the scenario). Runs are
done two at a time, each on one core. The same command continues where it was stopped, also within
a run.

Rows:

  sft                 local training
  fedavg              averages within an architecture
  fedmosaic           shares across both architectures; A and B of Gemma are aligned to SmolLM2's
                      (once, the alignment is stored); gradient signatures come from SmolLM2
  same architecture   FedMosaic whose clients receive from their own architecture alone
  interpolation       FedMosaic in which a fifth of what is received enters the own adapter

Every algorithm has the local steps that cost what local training costs, counted
(``budget=flops``). Every algorithm chooses its learning rate among the same three on a validation
split of the training data, with a seed of its own, by the mean of Self and Others; FedMosaic's
variants use the rate that FedMosaic chose. P, Q and the gates keep the scenario's own rates.
Accuracies are those of choices by likelihood, on 100 items of a client's own task and 30 of each
other task. Writes results/language_models.json and language_models.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import fedmosaic
from benchmarks.accuracy.evidence_rows import INTERPOLATION, SAME_ARCHITECTURE
from benchmarks.accuracy.language_models_table import table
from benchmarks.common.arguments import add_run_arguments, benchmark_parser
from benchmarks.common.claims import Claim, claims_table, judge
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import write_result
from benchmarks.common.tables import (
    COLUMNS,
    complete_rows,
    own_group_shares,
    scenario_table,
    values_by_seed,
)
from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.compare import SWEEP
from fedmosaic.experiments.variants import Variant, slug
from fedmosaic.federation.run_folder import RunFolder

NAME = "language_models"
SCENARIO = "reference/hetero"
ALGORITHMS = ("sft", "fedavg", "fedmosaic")
VARIANTS = [
    Variant(SAME_ARCHITECTURE, "fedmosaic-same-architecture"),
    Variant(INTERPOLATION, "fedmosaic-interpolation"),
]
LABELS = (*ALGORITHMS, *(variant.label for variant in VARIANTS))
SEEDS = (0, 1, 2, 3, 4)
CLAIMS = (
    Claim("FedMosaic outperforms local training", "fedmosaic", ("sft",)),
    Claim("FedMosaic outperforms FedAvg", "fedmosaic", ("fedavg",)),
    Claim(
        "Sharing across architectures outperforms sharing within an architecture",
        "fedmosaic",
        (SAME_ARCHITECTURE,),
    ),
    Claim(
        "Extension: interpolation (a fifth of what is received enters the own adapter) "
        "outperforms FedMosaic",
        INTERPOLATION,
        ("fedmosaic",),
    ),
    Claim("Interpolation outperforms local training", INTERPOLATION, ("sft",)),
    Claim("Interpolation outperforms FedAvg", INTERPOLATION, ("fedavg",)),
)
CHOICES = {"train.lr": ["5e-4", "1e-3", "2e-3"]}
CHOOSING_SEEDS = (1000,)
EQUAL = "budget=flops"
SMALL = ("rounds=1", "train.steps=6", "data.train=20", "data.test=20", "relevance.every=2")


def small_scenario() -> Scenario:
    """Return the scenario with its first two clients alone, a related pair of both families."""
    scenario = load_scenario(SCENARIO, [*SMALL, EQUAL])
    return scenario.model_copy(update={"title": "small", "clients": scenario.clients[:2]})


def variants_folder(folder: Path) -> Path:
    """Return the folder of the variants' comparison, which takes the rate chosen in the other."""
    return folder.with_name(f"{folder.name}-variants")


def run_of(folder: Path, label: str, seed: int) -> RunFolder:
    """Return the run folder of a row and a seed."""
    place = folder if label in ALGORITHMS else variants_folder(folder)
    return RunFolder(place / slug(label) / f"seed-{seed}")


def costs(folder: Path, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return for every seed the seconds and the peak memory in GB of its runs."""
    found: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        runs = {name: run_of(folder, name, seed).summary() for name in LABELS}
        found[str(seed)] = {
            "seconds": {name: round(run["seconds"]["total"]) for name, run in runs.items() if run},
            "memory": {name: round(run["memory"] / 1e9, 2) for name, run in runs.items() if run},
        }
    return found


def losses_and_similarities(folder: Path, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return for every seed the final losses and the similarities of FedMosaic's signatures.

    Returns:
        By seed ``{"loss": by label, "similarity": by kind of pair}``. The loss is that of training
        in the last two rounds, mean over clients. Similarities are those after the last round:
        mean, least and most over the pairs of clients with the same kind of task, with the same
        question under another convention, and with different questions.
    """
    clients = load_scenario(SCENARIO).clients
    questions = [client.tasks[0].name.partition("-")[0] for client in clients]
    found: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        lines = {name: run_of(folder, name, seed).lines() for name in LABELS}
        losses = {name: _last_losses(run) for name, run in lines.items() if run}
        matrices = [
            line["relevance"]["similarity"] for line in lines["fedmosaic"] if "relevance" in line
        ]
        pairs: dict[str, list[float]] = {
            "same kind": [],
            "other convention": [],
            "other question": [],
        }
        for i, j in combinations(range(len(clients)), 2) if matrices else ():
            same = "same kind" if clients[i].group == clients[j].group else "other convention"
            kind = same if questions[i] == questions[j] else "other question"
            pairs[kind].append(matrices[-1][i][j])
        similar = {
            kind: [round(f(each), 2) for f in (fmean, min, max)]
            for kind, each in pairs.items()
            if each
        }
        found[str(seed)] = {"loss": losses, "similarity": similar}
    return found


def _last_losses(lines: Sequence[Mapping[str, Any]]) -> float:
    turns = [line for line in lines if line["kind"] == "client"]
    last = max(turn["round"] for turn in turns)
    return round(fmean(turn["loss"] for turn in turns if turn["round"] >= last - 1), 2)


def rows_of(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Compare the rows of both comparisons that are complete."""
    return complete_rows(partial(run_of, folder), LABELS, seeds)


def choices_of(folder: Path) -> dict[str, Any]:
    """Return the candidates and the choice of every algorithm on the validation split."""
    found: dict[str, Any] = json.loads((folder / SWEEP).read_text())["choices"]
    return found


def run_all(folder: Path, seeds: Sequence[int], settings: Sequence[str], jobs: int) -> None:
    """Run the algorithms, which choose their rates, then the variants at FedMosaic's rate."""
    compare = partial(
        fedmosaic.compare, SCENARIO, seeds=seeds, overrides=[EQUAL, *settings], jobs=jobs
    )
    compare(algorithms=ALGORITHMS, out=folder, sweep=CHOICES, sweep_seeds=CHOOSING_SEEDS)
    rate = tuple(choices_of(folder)["fedmosaic"]["chosen"])
    # One variant after another: the first can be in the result before the second is finished.
    for number in range(1, len(VARIANTS) + 1):
        variants = [replace(variant, settings=rate) for variant in VARIANTS[:number]]
        compare(algorithms=variants, out=variants_folder(folder))


def result_of(folder: Path, seeds: Sequence[int], settings: Sequence[str]) -> dict[str, Any]:
    """Return the content of the result file from the finished runs."""
    rows = rows_of(folder, seeds)
    return {
        "command": f"python -m benchmarks.accuracy.{NAME}"
        + "".join(f" --set {setting}" for setting in settings),
        "seeds": list(seeds),
        "choices": choices_of(folder),
        "scenarios": {SCENARIO: rows},
        "claims": judge(values_by_seed(rows), CLAIMS, COLUMNS),
        "own group": own_group_shares(
            partial(run_of, folder), load_scenario(SCENARIO), ["fedmosaic"], seeds
        ),
        "runs": costs(folder, seeds),
        "training": losses_and_similarities(folder, seeds),
    }


def main() -> None:
    """Run the comparisons and write the result."""
    parser = benchmark_parser(__doc__)
    add_run_arguments(parser, "runs/benchmark", jobs=2)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(SEEDS), help="default: %(default)s"
    )
    parser.add_argument("--set", action="append", default=[], help="another setting of every run")
    parser.add_argument(
        "--small", action="store_true", help="run one round of two clients; write no result"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if arguments.small:
        fedmosaic.compare(
            small_scenario(),
            algorithms=ALGORITHMS,
            seeds=arguments.seeds,
            overrides=arguments.set,
            out=arguments.runs / f"{NAME}-small",
            jobs=arguments.jobs,
        )
        return
    folder = arguments.runs / NAME
    if not arguments.table:
        run_all(folder, arguments.seeds, arguments.set, arguments.jobs)
    content = result_of(folder, arguments.seeds, arguments.set)
    text = table(content)
    write_result(NAME, content, text)
    write_between_marks(NAME, scenario_table(content["scenarios"]))
    write_between_marks(f"{NAME} claims", claims_table(content["claims"], COLUMNS))
    print(text)


if __name__ == "__main__":
    main()
