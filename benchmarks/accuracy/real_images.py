"""Compare local training, FedAvg and FedMosaic on the real images of easy-VQA.

  python -m benchmarks.accuracy.real_images            20 minutes on 2 cores; continues if stopped
  python -m benchmarks.accuracy.real_images --table    writes the table from the finished comparison

Needs the extra ``examples``. The scenario is run as it comes, with three seeds; intervals are
paired by seed. Local steps per round are those of equal compute in the paper, 94 of FedMosaic for
100 of the others, here rounded down to 14 for 15. No learning rate is chosen, and A and B are not
aligned. Writes results/easy-vqa.json and easy-vqa.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import fedmosaic
from benchmarks.common.arguments import add_run_arguments, benchmark_parser
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import write_result
from benchmarks.common.tables import scenario_table
from fedmosaic.reporting.comparison import legend, markdown_tables

SCENARIO, SEEDS, ALGORITHMS = "easy-vqa", (0, 1, 2), ("sft", "fedavg", "fedmosaic")


def table(command: str, rows: Mapping[str, Any]) -> str:
    """Return the whole result in Markdown."""
    lines = [
        "# easy-vqa",
        "",
        f"Made by `{command}`; all figures are in `easy-vqa.json`.",
        "",
        f"{legend({'metrics': ['accuracy']})} Choices by option likelihood.",
        "",
        *markdown_tables(SCENARIO, rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the comparison and write the result."""
    parser = benchmark_parser(__doc__)
    add_run_arguments(parser, "runs/easy-vqa", jobs=0)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not arguments.table:
        fedmosaic.compare(
            SCENARIO, algorithms=ALGORITHMS, seeds=SEEDS, out=arguments.runs, jobs=arguments.jobs
        )
    rows = fedmosaic.show(arguments.runs)["algorithms"]
    command = "python -m benchmarks.accuracy.real_images"
    text = table(command, rows)
    content = {"command": command, "seeds": SEEDS, "scenarios": {SCENARIO: rows}}
    write_result("easy-vqa", content, text)
    write_between_marks("easy-vqa", scenario_table({SCENARIO: rows}))
    print(text)


if __name__ == "__main__":
    main()
