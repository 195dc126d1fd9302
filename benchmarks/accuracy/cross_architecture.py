"""Test whether P, Q shared across architectures help in a federation, by how A and B were chosen.

  python -m benchmarks.accuracy.cross_architecture      2 hours on 2 cores; continues if stopped

FedMosaic on miniature/hetero, eight rounds, five seeds: Co-LoRA (rank 64) on o_proj of eight
layers of every model; ordinary LoRA, shared within an architecture, elsewhere. Rows:

  no communication    the same adapters, nothing is exchanged
  same architecture   P, Q are mixed within an architecture alone (A, B as refined)
  random              P, Q are mixed over all clients; every model has random A, B of its own
  gradients           A, B are aligned to the pivot by the closed form on output gradients
  refined             A, B are refined jointly (those of the package); the paper's aggregation
  refined, additive   A, B are refined jointly; the mix of the own architecture, and added to it
                      that of the other architectures with weight 2 (the best in transplant.md)

All rows use lr_shared 0.01 with one second moment a tensor; the rate was chosen under seed 1000
alone. Random and closed-form pairs have the strength that adapters give them (``b_scale``),
refined pairs have their own. A difference between them is therefore not one of direction alone.
Differences are paired by seed and have 95 % intervals. Writes results/cross_architecture.json and
cross_architecture.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import fedmosaic
from benchmarks.accuracy.evidence_rows import (
    ADDITIVE,
    NO_COMMUNICATION,
    SAME_ARCHITECTURE,
)
from benchmarks.common.arguments import add_run_arguments, benchmark_parser
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import write_result
from benchmarks.common.tables import (
    COLUMNS,
    format_interval,
    table_head,
    table_row,
    values_by_seed,
)
from fedmosaic.experiments.statistics import interval, paired
from fedmosaic.experiments.variants import Variant

SCENARIO, SEEDS = "miniature/hetero", (0, 1, 2, 3, 4)
SETTINGS = [
    "rounds=8",
    "evaluation.every=8",
    "evaluation.last_items=30",
    "adapter.num_blocks=8",
    "adapter.block_rule=even",
    "adapter.shared_modules=[o_proj]",
    "adapter.shared_r=64",
    "train.moment_shared=tensor",
    "train.lr_shared=0.01",
    "alignment={method: gradients, refine: {}, size: 1500}",
]
CLOSED_FORM = "alignment={method: gradients, refine: null, size: 512}"
VARIANTS = [
    Variant(NO_COMMUNICATION, "fedmosaic-no-communication"),
    Variant(SAME_ARCHITECTURE, "fedmosaic-same-architecture"),
    Variant("random", "fedmosaic-unaligned"),
    Variant("gradients", "fedmosaic", (CLOSED_FORM,)),
    Variant("refined", "fedmosaic"),
    Variant(f"refined, {ADDITIVE}", "fedmosaic-additive"),
]
REFERENCES = (NO_COMMUNICATION, SAME_ARCHITECTURE, "random", "gradients")


def differences(rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the paired differences of all rows to each reference, by reference and label."""
    values = values_by_seed(rows)
    return {
        reference: {
            label: {c: paired(values[label][c], values[reference][c]) for c in COLUMNS}
            for label in values
            if label != reference
        }
        for reference in REFERENCES
    }


def differences_content(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Return the paired differences in the form of the result file."""
    return {
        f"{label} - {reference}": {c: None if gap is None else vars(gap) for c, gap in gaps.items()}
        for reference, found in differences(rows).items()
        for label, gaps in found.items()
    }


def table(rows: Mapping[str, Any], command: str) -> str:
    """Return the whole result in Markdown."""
    head = table_head("A, B", COLUMNS)
    lines = [
        "# P, Q across architectures, in a federation",
        "",
        f"Made by `{command}`, whose docstring explains the rows. Accuracy in percent on "
        f"{SCENARIO}: mean ± half-width of the 95 % interval over {len(SEEDS)} seeds.",
        "",
        *head,
    ]
    for label, row in rows.items():
        cells = [format_interval(interval(row[c]["values"])) for c in COLUMNS]
        lines.append(table_row([label, *cells]))
    for reference, found in differences(rows).items():
        lines += ["", f"Difference to *{reference}*, paired by seed:", "", *head]
        for label, gaps in found.items():
            lines.append(table_row([label, *(format_interval(gap, "+") for gap in gaps.values())]))
    return "\n".join(lines) + "\n"


def short_table(rows: Mapping[str, Any]) -> str:
    """Return Self and Others of every row, for the page of results."""
    lines = table_head("A, B", ["Self", "Others"])
    for label, row in rows.items():
        cells = [format_interval(interval(row[c]["values"])) for c in ("Self", "Others")]
        lines.append(table_row([label, *cells]))
    return "\n".join(lines)


def main() -> None:
    """Run the comparison and write the result."""
    parser = benchmark_parser(__doc__)
    add_run_arguments(parser, "runs/cross-architecture", jobs=0)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not arguments.table:
        fedmosaic.compare(
            SCENARIO,
            algorithms=VARIANTS,
            seeds=SEEDS,
            overrides=SETTINGS,
            out=arguments.runs,
            jobs=arguments.jobs,
        )
    command = "python -m benchmarks.accuracy.cross_architecture"
    rows = fedmosaic.show(arguments.runs)["algorithms"]
    content = {
        "command": command,
        "settings": SETTINGS,
        "rows": rows,
        "differences": differences_content(rows),
    }
    text = table(rows, command)
    write_result("cross_architecture", content, text)
    write_between_marks("cross_architecture", short_table(rows))
    print(text)


if __name__ == "__main__":
    main()
