"""Two real pretrained language models of different families in one federation: SmolLM2 135M and Gemma 3 270M, text tasks, several seeds.

    python -m benchmarks.accuracy.language_models              # everything; three hours on 2 cores
    python -m benchmarks.accuracy.language_models --table      # only write the result again from what is finished
    python -m benchmarks.accuracy.language_models --small      # one round of two clients, to see that everything is there; only prints

Needs what ``reference/hetero`` needs (``pip install 'fedmosaic[reference]'`` and the two models, see the scenario's head). The comparisons
(``fedmosaic compare``) are in folders below --runs; runs are done two at a time, each on one core, and the same command again goes on
where it was stopped, within a run too. FedAvg averages within an architecture; FedMosaic shares across both, with A and B of Gemma aligned
to SmolLM2's (once: the alignment is stored) and gradient signatures from SmolLM2. Beside it stand FedMosaic whose clients listen to their
own architecture alone (``within``), and the extension ``pull``, in which a fifth of what is received enters a client's own adapter. Every
algorithm has the local steps that cost what local training costs, counted (``budget=flops``), and chooses its learning rate among the same
three on a validation split of the training data with a seed of its own, by the mean of Self and Others; FedMosaic's variants take what
FedMosaic chose. P, Q and the gates keep the scenario's own rates. Accuracies are those of choices by likelihood, on 100 items of a client's
own task and 30 of each other one. The result is ``benchmarks/results/language_models.json`` and ``language_models.md``.
"""

from __future__ import annotations

import argparse
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
from benchmarks.common.claims import Claim, claims_table, judged
from benchmarks.common.marks import put
from benchmarks.common.paths import RESULTS
from benchmarks.common.tables import COLUMNS, complete_rows, short_table, values_of, weights_after
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.compare import SWEEP
from fedmosaic.experiments.variants import Variant
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.reporting.comparison import LEGEND, markdown_tables

NAME = "language_models"
SCENARIO = "reference/hetero"
ALGORITHMS = ("sft", "fedavg", "fedmosaic")
VARIANTS = [Variant(name, f"fedmosaic-{name}") for name in ("within", "pull")]
LABELS = (*ALGORITHMS, *(variant.label for variant in VARIANTS))
SEEDS = (0, 1, 2, 3, 4)
CLAIMS: tuple[Claim, ...] = (
    ("FedMosaic above local training", "fedmosaic", ("sft",)),
    ("FedMosaic above FedAvg", "fedmosaic", ("fedavg",)),
    ("Sharing across architectures above sharing within", "fedmosaic", ("within",)),
    (
        "Extension *pull*: a fifth of what is received enters one's own, above FedMosaic",
        "pull",
        ("fedmosaic",),
    ),
    ("*pull* above local training", "pull", ("sft",)),
    ("*pull* above FedAvg", "pull", ("fedavg",)),
)
CHOICES = {"train.lr": ["5e-4", "1e-3", "2e-3"]}
CHOOSING_SEEDS = (1000,)
EQUAL = "budget=flops"
# A related pair, one client of each family, for one short round.
SMALL = ("rounds=1", "train.steps=6", "data.train=20", "data.test=20", "relevance.every=2")


def small_scenario() -> Any:
    """The scenario with its first two clients alone."""
    scenario = load_scenario(SCENARIO, [*SMALL, EQUAL])
    return scenario.model_copy(update={"title": "small", "clients": scenario.clients[:2]})


def run_of(folder: Path, label: str, seed: int) -> RunFolder:
    """Where a run is: FedMosaic's variants have a comparison of their own, with the rate that FedMosaic chose in the other."""
    place = folder if label in ALGORITHMS else folder.with_name(f"{folder.name}-variants")
    return RunFolder(place / label / f"seed-{seed}")


def costs(folder: Path, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """For every seed what its runs took: seconds of all rounds, and the most memory the process held, in GB."""
    found: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        runs = {name: run_of(folder, name, seed).summary() for name in LABELS}
        found[str(seed)] = {
            "seconds": {name: round(run["seconds"]["total"]) for name, run in runs.items() if run},
            "memory": {name: round(run["memory"] / 1e9, 2) for name, run in runs.items() if run},
        }
    return found


def learned(folder: Path, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """For every seed the training loss of the last two rounds, mean over clients, and FedMosaic's similarities after the last round:
    between clients of one kind of task, of the same question under another convention, and of other questions (mean, least, most)."""
    clients = load_scenario(SCENARIO).clients
    asked = [client.tasks[0].name.partition("-")[0] for client in clients]
    found: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        lines = {name: run_of(folder, name, seed).lines() for name in LABELS}
        losses = {name: _last_losses(run) for name, run in lines.items() if run}
        signed = [
            line["relevance"]["similarity"] for line in lines["fedmosaic"] if "relevance" in line
        ]
        pairs: dict[str, list[float]] = {
            "same kind": [],
            "other convention": [],
            "other question": [],
        }
        for i, j in combinations(range(len(clients)), 2) if signed else ():
            same = "same kind" if clients[i].group == clients[j].group else "other convention"
            pairs[same if asked[i] == asked[j] else "other question"].append(signed[-1][i][j])
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
    """The figures of both comparisons together, of whatever has every seed."""
    return complete_rows(partial(run_of, folder), LABELS, seeds)


def table(content: Mapping[str, Any]) -> str:
    """The result in Markdown, from everything that stands in the file beside it."""
    command, rows, per_seed = content["command"], content["scenarios"][SCENARIO], content["runs"]
    learned, choices = content["learned"], content["choices"]
    lines = [
        "# Two pretrained language models of different families",
        "",
        f"Made by `{command}`; all figures in `{NAME}.json`.",
        "",
        f"{LEGEND} Choices by option likelihood. In-group: the same question about other entities, at clients of both models.",
        "",
        *markdown_tables(SCENARIO, rows),
        claims_table(content["claims"], COLUMNS),
        "",
        "Of a client's weights {fedmosaic:.1f} % go to its own group after the last round, mean over clients (two have no group); with "
        "equal weights {equal:.1f} %.".format(**content["own group"]),
        "",
        "Choice of the learning rate, Self / Others on the validation split; **chosen**:",
        "",
        "| | " + " | ".join(CHOICES["train.lr"]) + " |",
        "|---" * (len(CHOICES["train.lr"]) + 1) + "|",
        *(f"| {label} | " + " | ".join(_tried(found)) + " |" for label, found in choices.items()),
        "",
        "What it took, seed by seed: seconds of all rounds of a run on one core, and the peak memory of its process.",
        "",
        "| seed | " + " | ".join(LABELS) + " | in all, core-minutes |",
        "|---" * (len(LABELS) + 2) + "|",
    ]
    for seed, took in per_seed.items():
        cells = [
            f"{took['seconds'][name]} s, {took['memory'][name]:.1f} GB"
            if name in took["seconds"]
            else ""
            for name in LABELS
        ]
        lines.append(
            f"| {seed} | " + " | ".join(cells) + f" | {sum(took['seconds'].values()) / 60:.0f} |"
        )
    kinds = list(dict.fromkeys(kind for each in learned.values() for kind in each["similarity"]))
    head = [*(f"loss, {name}" for name in LABELS), *(f"similarity, {kind}" for kind in kinds)]
    lines += [
        "",
        "Training loss in the last two rounds, mean over clients; similarity of FedMosaic's signatures after the last: mean (range).",
        "",
        "| seed | " + " | ".join(head) + " |",
        "|---" * (len(head) + 1) + "|",
    ]
    for seed, each in learned.items():
        cells = [f"{each['loss'][name]:.2f}" if name in each["loss"] else "" for name in LABELS]
        for kind in kinds:
            mean, least, most = each["similarity"][kind]
            cells.append(f"{mean:.2f} ({least:.2f} to {most:.2f})")
        lines.append(f"| {seed} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _tried(found: Mapping[str, Any]) -> list[str]:
    """What each candidate scored, the chosen one in bold."""
    cells = []
    for entry in found["candidates"]:
        text = "failed" if "failed" in entry else f"{entry['self']:.1f} / {entry['others']:.1f}"
        cells.append(f"**{text}**" if entry["settings"] == found["chosen"] else text)
    return cells


def choices_of(folder: Path) -> dict[str, Any]:
    """What every algorithm tried and chose."""
    found: dict[str, Any] = json.loads((folder / SWEEP).read_text())["choices"]
    return found


def main() -> None:
    """Parse, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/benchmark"), help="where the comparison goes"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument(
        "--jobs", type=int, default=2, help="runs at a time, each with its share of the cores"
    )
    parser.add_argument("--set", action="append", default=[], help="further settings of every run")
    parser.add_argument(
        "--table", action="store_true", help="only write the result from what is finished"
    )
    parser.add_argument(
        "--small", action="store_true", help="one round of two clients; prints the figures alone"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    folder = arguments.runs / (f"{NAME}-small" if arguments.small else NAME)
    if arguments.small:
        fedmosaic.compare(
            small_scenario(), algorithms=ALGORITHMS, seeds=arguments.seeds, set=arguments.set, out=folder, jobs=arguments.jobs
        )  # fmt: skip
        return
    if not arguments.table:
        compare = partial(
            fedmosaic.compare,
            SCENARIO,
            seeds=arguments.seeds,
            set=[EQUAL, *arguments.set],
            jobs=arguments.jobs,
        )
        compare(algorithms=ALGORITHMS, out=folder, sweep=CHOICES, sweep_seeds=CHOOSING_SEEDS)
        rate = tuple(choices_of(folder)["fedmosaic"]["chosen"])
        for number in range(
            1, len(VARIANTS) + 1
        ):  # one after another, so that what is complete can be told
            variants = [replace(variant, settings=rate) for variant in VARIANTS[:number]]
            compare(algorithms=variants, out=folder.with_name(f"{NAME}-variants"))
    rows = rows_of(folder, arguments.seeds)
    content = {
        "command": f"python -m benchmarks.accuracy.{NAME}"
        + "".join(f" --set {setting}" for setting in arguments.set),
        "seeds": arguments.seeds,
        "choices": choices_of(folder),
        "scenarios": {SCENARIO: rows},
        "claims": judged(values_of(rows), CLAIMS, COLUMNS),
        "own group": weights_after(
            partial(run_of, folder), load_scenario(SCENARIO), ["fedmosaic"], arguments.seeds
        ),
        "runs": costs(folder, arguments.seeds),
        "learned": learned(folder, arguments.seeds),
    }
    text = table(content)
    (RESULTS / f"{NAME}.json").write_text(json.dumps(content, indent=1) + "\n")
    (RESULTS / f"{NAME}.md").write_text(text)
    put(NAME, short_table(content["scenarios"]))
    put(f"{NAME} claims", claims_table(content["claims"], COLUMNS))
    print(text)


if __name__ == "__main__":
    main()
