"""Measure memory and time of the rounds of a large population, of which a cohort takes part.

  python -m benchmarks.cost.cohort
  python -m benchmarks.cost.cohort --clients 60 --cohort 5 --rounds 12

Every client has a file of its own with questions about pictures of the miniature world. Clients
have three architectures in turn. Each round draws a cohort, which trains and is evaluated; all
other clients are files. The last quarter of the rounds is compared with the first: neither memory
nor time may grow. Writes results/cohort.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import fedmosaic
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.cost.full_run import resident_memory
from fedmosaic.federation.callbacks import Callback
from fedmosaic.miniature.benchmark.load import load_task, task_names

MODELS = ("miniature/llama-8x96", "miniature/qwen2-10x112", "miniature/llama-12x128")


class Rounds(Callback):
    """Record what each round takes.

    Attributes:
        memory: resident memory after each round, in MB.
        processor: processor time of each round, in seconds.
        wall: wall time of each round, in seconds.
    """

    def __init__(self) -> None:
        """Start with no round."""
        self.memory: list[float] = []
        self.processor: list[float] = []
        self.wall: list[float] = []

    def run_started(self, settings: Any, first_round: int) -> None:
        """Start the clocks."""
        self.clocks = time.process_time(), time.perf_counter()

    def round_finished(
        self, round_number: int, entry: Mapping[str, Any], records: Sequence[Any]
    ) -> None:
        """Add a round; its checkpoint is on disk."""
        now = time.process_time(), time.perf_counter()
        self.processor.append(now[0] - self.clocks[0])
        self.wall.append(now[1] - self.clocks[1])
        self.memory.append(resident_memory())
        self.clocks = time.process_time(), time.perf_counter()


def write_client(folder: Path, number: int, items: int) -> None:
    """Write one client's file and pictures.

    Args:
        folder: folder of the data.
        number: number of the client, which draws its items.
        items: number of items; a fifth of them is for testing.
    """
    names = task_names()
    task = load_task(names[number % len(names)], seed=number, train_limit=items, test_limit=1)
    pictures = folder / f"{number:05d}"
    pictures.mkdir(parents=True)
    rows = []
    for place, example in enumerate(task.train):
        images = [pictures / f"{place}-{k}.png" for k in range(len(example.images))]
        for path, image in zip(images, example.images, strict=True):
            image.load().save(path)
        question, answer = example.turns
        rows.append(
            {
                "id": str(place),
                "image": [str(path.relative_to(folder)) for path in images],
                "conversations": [
                    {"from": "human", "value": question.text},
                    {"from": "gpt", "value": answer.text},
                ],
            }
        )
    (folder / f"client-{number:05d}.json").write_text(json.dumps(rows))


def scenario_of(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Return the scenario, as its file has it."""
    clients = [
        {
            "name": f"client-{k:05d}",
            "model": MODELS[k % len(MODELS)],
            "tasks": [f"client-{k:05d}.json"],
        }
        for k in range(arguments.clients)
    ]
    return {
        "title": f"{arguments.cohort} of {arguments.clients} clients a round",
        "rounds": arguments.rounds,
        "cohort": arguments.cohort,
        "clients_in_memory": arguments.in_memory,
        "server": {"memory": arguments.server_memory},
        "clients": clients,
        "data": {"root": str(data), "public": "miniature/public", "public_size": 16},
        "adapter": {"r": 16, "alpha": 32, "num_blocks": 2},
        "train": {"steps": arguments.steps, "batch_size": 4, "lr": 2e-3, "lr_shared": 5e-3},
        "evaluation": {"every": 1, "clients": "participants", "others": False},
    }


def quarters(values: Sequence[float]) -> dict[str, float]:
    """Return the medians of the first and of the last quarter of the rounds, and their ratio."""
    size = max(1, len(values) // 4)
    first, last = statistics.median(values[:size]), statistics.median(values[-size:])
    return {"first": round(first, 3), "last": round(last, 3), "ratio": round(last / first, 4)}


def disk_use(folder: Path) -> float:
    """Return the MB that the files of a folder take; a file with several names counts once."""
    found = {(s := path.stat()).st_ino: s.st_size for path in folder.rglob("*") if path.is_file()}
    return round(sum(found.values()) / 1e6, 1)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the data, run and return the figures."""
    for number in range(arguments.clients):
        write_client(folder / "data", number, arguments.items)
    path = folder / "cohort.yaml"
    path.write_text(json.dumps(scenario_of(arguments, folder / "data")))
    rounds, began = Rounds(), time.perf_counter()
    run = fedmosaic.run(
        path,
        algorithm=arguments.algorithm,
        out=folder / "run",
        workers=1,
        callbacks=[rounds],
        trackers=(),
        progress=False,
    )
    return {
        "trained": len(list((run.folder / "adapters").iterdir())),
        "start_seconds": round(time.perf_counter() - began - sum(rounds.wall), 1),
        "memory_mb": quarters(rounds.memory),
        "processor_seconds": quarters(rounds.processor),
        "wall_seconds": quarters(rounds.wall),
        "checkpoints_mb": disk_use(run.folder / "checkpoints"),
        "memory_by_round_mb": rounds.memory,
    }


def main() -> None:
    """Run, measure and write the result."""
    parser = benchmark_parser(__doc__)
    for name, value in (("clients", 1000), ("cohort", 20), ("rounds", 50)):
        parser.add_argument(f"--{name}", type=int, default=value, help="default: %(default)s")
    parser.add_argument("--items", type=int, default=20, help="of a client; default: %(default)s")
    parser.add_argument("--steps", type=int, default=4, help="local steps; default: %(default)s")
    parser.add_argument(
        "--in-memory", type=int, default=20, help="clients in memory; default: %(default)s"
    )
    parser.add_argument(
        "--server-memory", default="20MB", help="server.memory; default: %(default)s"
    )
    parser.add_argument("--algorithm", default="fedmosaic", help="default: %(default)s")
    arguments = parser.parse_args()
    options = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in vars(arguments).items())
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    result = {
        "command": f"python -m benchmarks.cost.cohort {options}",
        "machine": {"cores": os.cpu_count(), "torch": torch.__version__},
        **vars(arguments),
        **found,
    }
    print(json.dumps(result, indent=1))
    write_result("cohort", result)


if __name__ == "__main__":
    main()
