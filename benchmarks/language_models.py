"""Two real pretrained language models of different families in one federation: SmolLM2 135M and Gemma 3 270M, text tasks, several seeds.

    python benchmarks/language_models.py              # everything: sft, fedavg, fedmosaic with seeds 0, 1, 2
    python benchmarks/language_models.py --table      # only write the result again from what is finished
    python benchmarks/language_models.py --small      # one round of two clients, to see that everything is there; writes no result

Needs what ``reference/hetero`` needs (``pip install 'fedmosaic[reference]'`` and the two models, see the scenario's head). The comparison
(``fedmosaic compare``) is in a folder below --runs; runs are done seed by seed, two at a time, each on one core, and the same command
again goes on where it was stopped, within a run too. FedAvg averages within an architecture; FedMosaic shares across both, with A and B of
Gemma aligned to SmolLM2's (once: the alignment is stored) and gradient signatures from SmolLM2. Every algorithm has the local steps that
cost what local training costs, counted (``budget=flops``), and the scenario's learning rates, which suit local training; nothing was
chosen for FedMosaic or FedAvg. Accuracies are those of choices by likelihood on 100 items a task. The result
is ``benchmarks/results/language_models.json`` and ``language_models.md``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readme import put

import fedmosaic
from fedmosaic.comparison.variants import slug
from fedmosaic.configfile import load_scenario
from fedmosaic.federation.runfolder import RunFolder
from fedmosaic.reporting.comparison import LEGEND, difference, markdown_tables, mean

HERE = Path(__file__).parent
NAME = "language_models"
SCENARIO = "reference/hetero"
ALGORITHMS = ("sft", "fedavg", "fedmosaic")
SEEDS = (0, 1, 2)
EQUAL = "budget=flops"
# A related pair, one client of each family, for one short round.
SMALL = ("rounds=1", "train.steps=6", "data.train=20", "data.test=20", "relevance.every=2")


def small_scenario() -> Any:
    """The scenario with its first two clients alone."""
    scenario = load_scenario(SCENARIO, [*SMALL, EQUAL])
    return scenario.model_copy(update={"title": "small", "clients": scenario.clients[:2]})


def costs(folder: Path, seeds: list[int]) -> dict[str, dict[str, Any]]:
    """For every seed what its runs took: seconds of all rounds, and the most memory the process held, in GB."""
    found: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        runs = {name: RunFolder(folder / slug(name) / f"seed-{seed}").summary() for name in ALGORITHMS}
        found[str(seed)] = {
            "seconds": {name: round(run["seconds"]["total"]) for name, run in runs.items() if run},
            "memory": {name: round(run["memory"] / 1e9, 2) for name, run in runs.items() if run},
        }
    return found


def table(command: str, rows: Mapping[str, Any], per_seed: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "# Two pretrained language models of different families",
        "",
        f"Made by `{command}`; all figures in `{NAME}.json`.",
        "",
        f"{LEGEND} Choices by option likelihood. In-group: the same question about other entities, at clients of both models.",
        "",
        *markdown_tables(SCENARIO, rows),
        "What it took, seed by seed: seconds of all rounds of a run on one core, and the peak memory of its process.",
        "",
        "| seed | " + " | ".join(ALGORITHMS) + " | in all, minutes |",
        "|---" * (len(ALGORITHMS) + 2) + "|",
    ]
    for seed, took in per_seed.items():
        cells = [
            f"{took['seconds'][name]} s, {took['memory'][name]:.1f} GB" if name in took["seconds"] else ""
            for name in ALGORITHMS
        ]
        lines.append(f"| {seed} | " + " | ".join(cells) + f" | {sum(took['seconds'].values()) / 60:.0f} |")
    return "\n".join([*lines, ""])


def short_table(rows: Mapping[str, Any]) -> str:
    """For the README."""
    lines = ["| algorithm | Self | Others | Others − sft |", "|---|---|---|---|"]
    for label, row in rows.items():
        cells = [mean(row["Self"]), mean(row["Others"]), difference(row["Others"].get("minus sft"))]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where the comparison goes")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with its share of the cores")
    parser.add_argument("--set", action="append", default=[], help="further settings of every run")
    parser.add_argument("--table", action="store_true", help="only write the result from what is finished")
    parser.add_argument("--small", action="store_true", help="one round of two clients; prints the table alone")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    folder = arguments.runs / (f"{NAME}-small" if arguments.small else NAME)
    if not arguments.table:
        fedmosaic.compare(
            small_scenario() if arguments.small else SCENARIO,
            algorithms=ALGORITHMS,
            seeds=arguments.seeds,
            set=arguments.set if arguments.small else [EQUAL, *arguments.set],
            out=folder,
            jobs=arguments.jobs,
        )
    rows = fedmosaic.show(folder)["algorithms"]
    command = f"python benchmarks/{NAME}.py" + "".join(f" --set {setting}" for setting in arguments.set)
    per_seed = costs(folder, arguments.seeds)
    text = table(command, rows, per_seed)
    if not arguments.small:
        content = {"command": command, "seeds": arguments.seeds, "scenarios": {SCENARIO: rows}, "runs": per_seed}
        (HERE / "results" / f"{NAME}.json").write_text(json.dumps(content, indent=1) + "\n")
        (HERE / "results" / f"{NAME}.md").write_text(text)
        put(NAME, short_table(rows))
    print(text)


if __name__ == "__main__":
    main()
