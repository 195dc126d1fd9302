"""Published runs made again: the same figures must come out.

Run:  python -m benchmarks.accuracy.reproduce
      (local training, seed 0 of the evidence's static part; two minutes)
      python -m benchmarks.accuracy.reproduce static fedmosaic --seed 3
      (or dynamic, cross_architecture, ablations, with the label of any row)

Runs one row with one seed as the benchmark does that made the result, in a folder that goes afterwards, and lays the figures beside those
in results/. Ends with 1 where one differs in any digit that is stored.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fedmosaic
from benchmarks.accuracy import ablations, cross_architecture, evidence
from benchmarks.common.paths import RESULTS
from benchmarks.common.tables import COLUMNS
from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.variants import Variant

BENCHMARKS = (*evidence.SCENARIOS, "cross_architecture", "ablations")


def published(benchmark: str) -> dict[str, Any]:
    """The rows of a benchmark's result."""
    evident = benchmark in evidence.SCENARIOS
    content = json.loads((RESULTS / f"{'evidence' if evident else benchmark}.json").read_text())
    rows: dict[str, Any] = (content[benchmark] if evident else content)["rows"]
    return rows


def run_of(benchmark: str, seed: int) -> tuple[Scenario, list[Variant]]:
    """What a benchmark runs with a seed: the scenario and the variants."""
    if benchmark == "cross_architecture":
        return load_scenario(
            cross_architecture.SCENARIO, cross_architecture.SET
        ), cross_architecture.VARIANTS
    pretraining = next(number for number, seeds in evidence.SEEDS.items() if seed in seeds)
    if benchmark == "ablations":
        return evidence.scenario("static", pretraining), ablations.published_variants()
    return evidence.scenario(benchmark, pretraining), evidence.published_variants(benchmark)


def beside(row: Mapping[str, Any], seed: int, again: Mapping[str, Any]) -> tuple[str, bool]:
    """Figures of a row as they are published and as they came out again, and whether all are equal."""
    place = row["seeds"].index(seed)
    pairs = {
        column: (row[column]["values"][place], again[column]["values"][0]) for column in COLUMNS
    }
    lines = [f"| {column} | {before} | {now} |" for column, (before, now) in pairs.items()]
    return "\n".join(["| | published | reproduced |", "|---|---|---|", *lines]), all(
        a == b for a, b in pairs.values()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", nargs="?", choices=BENCHMARKS, default="static")
    parser.add_argument("label", nargs="?", default="sft", help="the row (default: sft)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    benchmark, label, seed = arguments.benchmark, arguments.label, arguments.seed
    rows = published(benchmark)
    if label not in rows:
        parser.error(f"{benchmark} has no row {label!r}; it has {', '.join(map(repr, rows))}")
    if seed not in rows[label]["seeds"]:
        parser.error(
            f"{label!r} has no seed {seed}; it has {', '.join(map(str, rows[label]['seeds']))}"
        )
    scenario, variants = run_of(benchmark, seed)
    variant = next(found for found in variants if found.label == label)
    with TemporaryDirectory() as folder:
        made = fedmosaic.compare(
            scenario, algorithms=[variant], seeds=[seed], out=Path(folder) / "again"
        )
    if made.failures:
        sys.exit(f"{benchmark}, {label}, seed {seed}: {made.failures[0].reason}")
    text, equal = beside(rows[label], seed, made.result["algorithms"][label])
    print(text)
    sys.exit(0 if equal else f"{benchmark}, {label}, seed {seed}: not what is published")


if __name__ == "__main__":
    main()
