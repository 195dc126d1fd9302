"""Run published rows again and compare: every stored figure must come out to the last digit.

  python -m benchmarks.accuracy.reproduce                    2 minutes: static, sft, seed 0
  python -m benchmarks.accuracy.reproduce static fedmosaic --seed 3
  python -m benchmarks.accuracy.reproduce dynamic "same architecture"
  python -m benchmarks.accuracy.reproduce cross_architecture refined
  python -m benchmarks.accuracy.reproduce ablations "r = 16"

Runs one row with one seed, with the models and settings of the benchmark that made the result, in
a temporary folder. Prints the figures beside the published ones in results/. The exit status is 1
if any figure differs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fedmosaic
from benchmarks.accuracy import (
    ablations,
    cross_architecture,
    evidence_content,
    evidence_parts,
    evidence_published,
)
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import read_result
from benchmarks.common.tables import COLUMNS, table_head, table_row
from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.summaries import column_values
from fedmosaic.experiments.variants import Variant
from fedmosaic.federation.run_folder import RunFolder

PARTS = tuple(read_result("evidence"))
BENCHMARKS = (*PARTS, "cross_architecture", "ablations")


def published(benchmark: str) -> dict[str, Any]:
    """Return the published rows of a benchmark."""
    content = read_result("evidence")[benchmark] if benchmark in PARTS else read_result(benchmark)
    rows: dict[str, Any] = content["rows"]
    return rows


def row_and_view(benchmark: str, label: str) -> tuple[str, str]:
    """Return the row whose run has the figures of a label, and the view that they are of."""
    if benchmark not in PARTS:
        return label, "mixed"
    row, view = evidence_content.SHOWN[label]
    return row.label, view


def scenario_and_variants(
    benchmark: str, seed: int, view: str = "mixed"
) -> tuple[Scenario, list[Variant]]:
    """Return the scenario and the rows that a benchmark runs with a seed.

    Args:
        benchmark: name of the benchmark.
        seed: the seed, which decides about the models.
        view: the view that is measured, beside the model that a client would use.
    """
    if benchmark == "cross_architecture":
        found = load_scenario(cross_architecture.SCENARIO, cross_architecture.SETTINGS)
        return found, cross_architecture.VARIANTS
    part = evidence_parts.STATIC if benchmark == "ablations" else benchmark
    found = evidence_parts.scenario(part, evidence_parts.PARTS[part].pretraining_of(seed))
    if benchmark == "ablations":
        return found, ablations.published_variants()
    views = tuple(dict.fromkeys(("mixed", view)))
    measured = found.evaluation.model_copy(update={"views": views})
    found = found.model_copy(update={"evaluation": measured})
    return found, evidence_published.published_variants(benchmark)


def reproduced_figures(summary: Mapping[str, Any], view: str) -> dict[str, Any]:
    """Return the figures of a view in the form of a published row."""
    found = summary if view == summary["evaluation"]["view"] else summary["also"][f"{view}, after"]
    return {
        column: {"values": [round(column_values({0: found}, column)[0], 3)]} for column in COLUMNS
    }


def compare_with_published(
    row: Mapping[str, Any], seed: int, reproduced: Mapping[str, Any]
) -> tuple[str, bool]:
    """Return the figures of both as a table, and whether all are equal.

    Args:
        row: the published row.
        seed: the seed that was run.
        reproduced: the row of that seed alone.
    """
    place = row["seeds"].index(seed)
    pairs = {
        column: (row[column]["values"][place], reproduced[column]["values"][0])
        for column in COLUMNS
    }
    lines = table_head("accuracy, %", ["published", "reproduced"])
    lines += [table_row([column, *map(str, pair)]) for column, pair in pairs.items()]
    return "\n".join(lines), all(before == now for before, now in pairs.values())


def main() -> None:
    """Run one row and exit with 1 if it is not what is published."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "benchmark",
        nargs="?",
        choices=BENCHMARKS,
        default="static",
        help="default: static, the first part of the evidence",
    )
    parser.add_argument("label", nargs="?", default="sft", help="the row (default: sft)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    benchmark, label, seed = arguments.benchmark, arguments.label, arguments.seed
    rows = published(benchmark)
    if label not in rows:
        parser.error(f"{benchmark} has no row {label!r}; it has {', '.join(map(repr, rows))}")
    if seed not in rows[label]["seeds"]:
        known = ", ".join(map(str, rows[label]["seeds"]))
        parser.error(f"{label!r} has no seed {seed}; it has {known}")
    row, view = row_and_view(benchmark, label)
    scenario, variants = scenario_and_variants(benchmark, seed, view)
    variant = next(found for found in variants if found.label == row)
    with TemporaryDirectory() as folder:
        out = Path(folder) / "reproduced"
        made = fedmosaic.compare(scenario, algorithms=[variant], seeds=[seed], out=out)
        if made.failures:
            sys.exit(f"{benchmark}, {label}, seed {seed}: {made.failures[0].reason}")
        summary = RunFolder(out / variant.folder / f"seed-{seed}").summary() or {}
    text, equal = compare_with_published(rows[label], seed, reproduced_figures(summary, view))
    print(text)
    sys.exit(0 if equal else f"{benchmark}, {label}, seed {seed}: differs from what is published")


if __name__ == "__main__":
    main()
