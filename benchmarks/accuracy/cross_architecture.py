"""Does shared P, Q carry knowledge between architectures in a federation? How A and B were chosen, everything else equal.

Run:  python -m benchmarks.accuracy.cross_architecture [--runs DIR] [--jobs 2]
      (about two hours on 2 cores; the same command goes on)

FedMosaic on miniature/hetero, eight rounds, five seeds, with Co-LoRA (rank 64) on o_proj of eight layers of every model and ordinary LoRA
elsewhere, shared within an architecture:

  local           the same adapters, nobody sends anything
  within          P, Q mixed within an architecture only (A, B as refined)
  random          P, Q mixed over all, every model with random A, B of its own
  gradients       A, B aligned to the pivot by the closed form on output gradients
  refined         A, B refined together (those that come with the package); the paper's scheme of aggregation
  refined, beside the mix of the own architecture as in *within*, and beside it that of the others, twice as strong (``foreign=2``; two is
                  what moves most in transplant.md)

lr_shared 0.01 with one second moment a tensor, for all alike; the rate was looked at under seed 1000 alone. Random and closed-form
pairs have the strength that adapters give them (``b_scale``), refined ones their own: what lies between them is not direction alone. Paired
differences with 95 % intervals. Writes results/cross_architecture.json and cross_architecture.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fedmosaic
from benchmarks.common.marks import put
from benchmarks.common.paths import RESULTS
from benchmarks.common.tables import COLUMNS, shown, values_of
from fedmosaic.experiments.statistics import interval, paired
from fedmosaic.experiments.variants import Variant

SCENARIO, SEEDS = "miniature/hetero", (0, 1, 2, 3, 4)
SET = [
    "rounds=8", "evaluation.every=8", "evaluation.last_items=30",
    "adapter.num_blocks=8", "adapter.shared_modules=[o_proj]", "adapter.shared_r=64",
    "train.moment_shared=tensor", "train.lr_shared=0.01",
    "alignment={method: gradients, refine: {}, layers: even, size: 1500}",
]  # fmt: skip
CLOSED = "alignment={method: gradients, refine: null, layers: even, size: 512}"
VARIANTS = [
    Variant("local", "fedmosaic-alone"),
    Variant("within", "fedmosaic-within"),
    Variant("random", "fedmosaic-unaligned"),
    Variant("gradients", "fedmosaic", (CLOSED,)),
    Variant("refined", "fedmosaic"),
    Variant("refined, beside", "fedmosaic-beside"),
]
AGAINST = ("local", "within", "random", "gradients")


def table(rows: dict[str, Any], command: str) -> tuple[dict[str, Any], str]:
    values = values_of(rows)
    lines = [
        "# P, Q across architectures, in a federation", "",
        f"Accuracy in percent on {SCENARIO}, mean ± half of a 95 % interval over {len(SEEDS)} seeds. Made by `{command}`, "
        "which tells what the variants are.", "",
        "| A, B | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS),
    ]  # fmt: skip
    for label, row in values.items():
        lines.append(
            f"| {label} | "
            + " | ".join(shown(interval(list(row[c].values()))) for c in COLUMNS)
            + " |"
        )
    gaps: dict[str, Any] = {}
    for other in AGAINST:
        lines += [
            "",
            f"Minus *{other}*, paired:",
            "",
            "| A, B | " + " | ".join(COLUMNS) + " |",
            "|---|" + "---|" * len(COLUMNS),
        ]
        for label in values:
            if label != other:
                found = {
                    column: paired(values[label][column], values[other][column])
                    for column in COLUMNS
                }
                gaps[f"{label} - {other}"] = {
                    c: None if gap is None else vars(gap) for c, gap in found.items()
                }
                lines.append(
                    f"| {label} | " + " | ".join(shown(gap, "+") for gap in found.values()) + " |"
                )
    return {"rows": rows, "differences": gaps}, "\n".join(lines) + "\n"


def short_table(found: Mapping[str, Any]) -> str:
    """For the README."""
    lines = ["| A, B | Self | Others |", "|---|---|---|"]
    for label, row in found["rows"].items():
        lines.append(
            f"| {label} | "
            + " | ".join(shown(interval(row[c]["values"])) for c in ("Self", "Others"))
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/federation"), help="where the runs go"
    )
    parser.add_argument("--jobs", type=int, default=0, help="runs at a time (default: chosen)")
    parser.add_argument(
        "--table", action="store_true", help="only write the result from the finished comparison"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not arguments.table:
        fedmosaic.compare(
            SCENARIO,
            algorithms=VARIANTS,
            seeds=SEEDS,
            set=SET,
            out=arguments.runs,
            jobs=arguments.jobs,
        )
    command = "python -m benchmarks.accuracy.cross_architecture"
    found, text = table(fedmosaic.show(arguments.runs)["algorithms"], command)
    (RESULTS / "cross_architecture.json").write_text(
        json.dumps({"command": command, "set": SET, **found}, indent=1) + "\n"
    )
    (RESULTS / "cross_architecture.md").write_text(text)
    put("federation", short_table(found))
    print(text)


if __name__ == "__main__":
    main()
