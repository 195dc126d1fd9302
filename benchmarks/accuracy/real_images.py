"""Local training, FedAvg and FedMosaic on real images, those of easy-VQA, as the scenario comes.

    python -m benchmarks.accuracy.real_images              # twenty minutes on 2 cores; the same command goes on
    python -m benchmarks.accuracy.real_images --table      # only write the table again from the finished comparison

Needs the extra ``examples``. Three seeds, paired intervals. Local steps a round are those of equal compute in the paper, 94 of FedMosaic
for 100 of the others, rounded down to 14 for 15 here; nobody's learning rate is chosen, A and B are not aligned. Writes
results/easy-vqa.json and easy-vqa.md.
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
from benchmarks.common.tables import short_table
from fedmosaic.reporting.comparison import LEGEND, markdown_tables

SCENARIO, SEEDS, ALGORITHMS = "easy-vqa", (0, 1, 2), ("sft", "fedavg", "fedmosaic")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/easy-vqa"), help="where the comparison goes"
    )
    parser.add_argument("--jobs", type=int, default=0, help="runs at a time (default: chosen)")
    parser.add_argument(
        "--table", action="store_true", help="only write the result from the finished comparison"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not arguments.table:
        fedmosaic.compare(
            SCENARIO, algorithms=ALGORITHMS, seeds=SEEDS, out=arguments.runs, jobs=arguments.jobs
        )
    rows = fedmosaic.show(arguments.runs)["algorithms"]
    command = "python -m benchmarks.accuracy.real_images"
    content = {"command": command, "seeds": SEEDS, "scenarios": {SCENARIO: rows}}
    text = table(command, rows)
    (RESULTS / "easy-vqa.json").write_text(json.dumps(content, indent=1) + "\n")
    (RESULTS / "easy-vqa.md").write_text(text)
    put("easy-vqa", short_table({SCENARIO: rows}))
    print(text)


def table(command: str, rows: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    head = ["# easy-vqa", "", f"Made by `{command}`; all figures in `easy-vqa.json`.", ""]
    lines = [*head, f"{LEGEND} Choices by option likelihood.", "", *markdown_tables(SCENARIO, rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
