"""Measure what checking a large set of data costs, and how soon a run then starts training.

  python -m benchmarks.cost.data_check [--items 100000] [--tree FOLDER]

The data is LLaVA-style JSON, nine tenths for training, and one picture of 96 × 96 pixels an item,
half of them PNG and half JPEG. Every stage is a process of its own, with the same cache:

  first check     `fedmosaic data check`, with nothing remembered of the images
  second check    the same, with what the first one remembered
  with a model    the second check for the items of a model, whose tokens are counted
  start           `fedmosaic run`, from the start of the process to the first round of training
  start without   the same with nothing remembered of the images

Given are seconds by the clock, seconds of the processor, and the most memory. On a machine that is
busy with other work only the processor's seconds count; the result has the machine's load. Writes
results/data_check.json.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL.Image

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.common.tables import table_head, table_row
from fedmosaic.files import CACHE_VARIABLE

MODEL = "miniature/llama-8x96"
SIDE, COLOURS = 96, ("red", "green", "blue", "grey")
TEST_SHARE = 10  # one item in so many is for testing
_SCENARIO = """\
title: Large
rounds: 1
data: {{root: {root}}}
clients: [{{name: north, model: {model}, tasks: [train.json]}}]
adapter: {{r: 4, num_blocks: 2}}
train: {{steps: 1, batch_size: 2, lr: 1.0e-3, lr_shared: 1.0e-3}}
evaluation: {{items: 2, last_items: 2}}
"""
_START = """\
import sys, time
import fedmosaic
from fedmosaic.federation.callbacks import Callback
class Stop(Callback):
    def round_started(self, number, clients):
        raise KeyboardInterrupt
try:
    fedmosaic.run(sys.argv[1], algorithm="sft", out=sys.argv[2], progress=False, callbacks=[Stop()])
except KeyboardInterrupt:
    sys.exit(0)
sys.exit("training never began")
"""


def write_tree(folder: Path, items: int) -> None:
    """Write pictures, train.json, test.json and a scenario."""
    (folder / "images").mkdir(parents=True)
    draw = np.random.default_rng(0)
    records = []
    for number in range(items):
        drawn = draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        name = f"images/{number}.{'jpg' if number % 2 else 'png'}"
        PIL.Image.fromarray(drawn).resize((SIDE, SIDE)).save(folder / name)
        question = f"<image>\nWhich colour has square {number}? Choice list:[{', '.join(COLOURS)}]"
        turns = [
            {"from": "human", "value": question},
            {"from": "gpt", "value": COLOURS[number % len(COLOURS)]},
        ]
        records.append({"id": str(number), "image": name, "conversations": turns})
    tested = items // TEST_SHARE
    (folder / "train.json").write_text(json.dumps(records[tested:]))
    (folder / "test.json").write_text(json.dumps(records[:tested]))
    (folder / "scenario.yaml").write_text(_SCENARIO.format(root=folder.resolve(), model=MODEL))


def measure(command: Sequence[str], cache: Path, status: int = 0) -> dict[str, float]:
    """Run a process, and return its time by the clock, of the processor, and its memory."""
    started = time.monotonic()
    environment = {**os.environ, CACHE_VARIABLE: str(cache), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    seconds = time.monotonic() - started
    if process.returncode != status:
        raise SystemExit(f"{' '.join(command)} exits with {process.returncode}")
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "megabytes": round(used.ru_maxrss / 1024),
    }


def stages(tree: Path, work: Path) -> dict[str, dict[str, float]]:
    """Measure every stage on a folder of data."""
    check = [
        *("-m", "fedmosaic", "data", "check", str(tree / "train.json"), "--root", str(tree)),
        "--quiet",
    ]
    start = ["-c", _START, str(tree / "scenario.yaml")]
    cache = work / "cache"
    return {
        "first check": measure(check, cache),
        "second check": measure(check, cache),
        "with a model": measure([*check, "--model", MODEL], cache),
        "start": measure([*start, str(work / "run")], cache),
        "start without": measure([*start, str(work / "other")], work / "empty cache"),
    }


def show(found: Mapping[str, Mapping[str, float]]) -> None:
    """Print the stages as a table."""
    columns = ["seconds", "processor_seconds", "megabytes"]
    print("\n".join(table_head("stage", columns)))
    for name, row in found.items():
        print(table_row([name, *(f"{row[column]:g}" for column in columns)]))


def main() -> None:
    """Write the data, measure, and write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--items", type=int, default=100_000, help="number of items")
    parser.add_argument("--tree", type=Path, help="folder of the data, written if it is not there")
    arguments = parser.parse_args()
    with TemporaryDirectory() as work:
        tree = arguments.tree or Path(work) / "tree"
        if not tree.is_dir():
            write_tree(tree, arguments.items)
            time.sleep(3)  # what was written a moment ago is not remembered
        found = stages(tree, Path(work))
    show(found)
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.cost.data_check --items {arguments.items}",
        "items": arguments.items,
        "cores": os.cpu_count(),
        "load_of_15_minutes": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        "stages": found,
    }
    write_result("data_check", result)


if __name__ == "__main__":
    main()
