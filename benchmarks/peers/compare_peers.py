"""Run one federation with fedmosaic, with Flower + PEFT, and with PEFT by hand, side by side.

  python -m benchmarks.peers.compare_peers [--rounds 5] [--clients 4] [--pairs 3] [--model small]

FedAvg of LoRA (rank 16, seven projections) among clients of one model, on questions with four
options. Each client trains 10 steps of 8 items a round and is then measured on its test items by
the likelihood of the options. Everything is done on the same items in the same sequence, from the
same first weights, so that all programs end with the same weights. The comparison stops if not.

  fedmosaic     `fedmosaic run scenario.yaml --algorithm fedavg`
  one_process   PEFT and transformers in a loop of one process
  flower        the same with Flower's simulation: `flwr run .`, on Ray
  fedmosaic_2, flower_2   two processes of one thread each; others use all cores in turn
  fedmosaic_together      four clients as one batch (train.together)

The programs alternate, as whole processes; the result holds medians, and medians of ratios to
fedmosaic in the same turn. Processor time and memory are those of all processes together. Seconds
a round are those between the end of the first round and the end of the last one; the rest is
start-up, what only the first round needs, and shut-down. Memory is the largest sum over processes,
where pages that several of them share count once (``pss``) or for each (``rss``).

Writes results/peers.json and peers.md, and table and text in docs/choosing.md; times on the clock
are shown only if the machine was quiet at the start. `make peers` installs Flower and Ray; without
them, the programs that need them are left out.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import read_result, write_result
from benchmarks.peers.prepare import MODELS, Prepared, prepare
from benchmarks.peers.process_tree import measure
from benchmarks.peers.programs import PROGRAMS, Program, environment, lines_of_code, missing
from benchmarks.peers.tables import LARGEST_DIFFERENCE, page, write_tables

FIGURES = ("wall", "processor", "rss", "pss", "round", "rest")


def run_program(program: Program, prepared: Prepared, out: Path) -> dict[str, Any]:
    """Run a program and return its figures, losses, accuracies and final weights.

    Raises:
        SystemExit: it failed; its last lines are shown.
    """
    found = measure(
        program.command(prepared, out),
        prepared.folder,
        environment(program, out.parent),
        program.mark,
    )
    if found.status or len(found.marks) != prepared.rounds:
        print(*found.output[-30:], sep="\n", file=sys.stderr)
        raise SystemExit(
            f"{program.title}: exit status {found.status}, {len(found.marks)} of "
            f"{prepared.rounds} rounds seen; its last lines are above"
        )
    later = max(prepared.rounds - 1, 1)
    a_round = (found.marks[-1] - found.marks[0]) / later if prepared.rounds > 1 else found.marks[0]
    learned = fedmosaic_results(out) if (out / "metrics.jsonl").exists() else peer_results(out)
    return {
        "wall": found.wall,
        "processor": found.processor,
        "rss": found.rss / 2**20,
        "pss": found.pss / 2**20,
        "round": a_round,
        "rest": found.wall - prepared.rounds * a_round,
        **learned,
    }


def peer_results(out: Path) -> dict[str, Any]:
    """Return what a peer wrote: loss and accuracy of every round, and the last average."""
    lines = json.loads((out / "figures.json").read_text())
    return {
        "loss": [line["loss"] for line in lines],
        "accuracy": [100 * line["accuracy"] for line in lines],
        "weights": load_file(out / "adapter_model.safetensors"),
    }


def fedmosaic_results(out: Path) -> dict[str, Any]:
    """Return what a run folder holds; the average is that of its clients' last adapters."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses: dict[int, list[float]] = {}
    scores: dict[int, list[float]] = {}
    for line in lines:
        if line["kind"] == "client":
            losses.setdefault(line["round"], []).append(line["loss"])
        elif line["kind"] == "score":
            scores.setdefault(line["round"], []).append(line["value"])
    files = sorted(out.glob("adapters/*/local/adapter_model.safetensors"))
    adapters = [load_file(file) for file in files]
    return {
        "loss": [statistics.fmean(losses[number]) for number in sorted(losses)],
        "accuracy": [100 * statistics.fmean(scores[number]) for number in sorted(scores)],
        "weights": {
            key: torch.stack([adapter[key] for adapter in adapters]).mean(0) for key in adapters[0]
        },
    }


def difference(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Return ‖w − o‖ / ‖w‖ over all B of two adapters, which were zero before training.

    Raises:
        SystemExit: they have other tensors.
    """
    if weights.keys() != others.keys():
        raise SystemExit(f"other tensors: {sorted(weights.keys() ^ others.keys())[:4]}")
    trained = [key for key in weights if "lora_B" in key]
    apart = sum(float((weights[key] - others[key]).square().sum()) for key in trained)
    size = sum(float(weights[key].square().sum()) for key in trained)
    return math.sqrt(apart / size)


def compare(prepared: Prepared, names: Sequence[str], pairs: int) -> dict[str, Any]:
    """Run the programs in turn and return the rows of the result."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(pairs):
        for name in names[:: 1 if turn % 2 == 0 else -1]:
            out = prepared.folder / f"{name}-{turn}" / "out"
            runs[name].append(run_program(PROGRAMS[name], prepared, out))
            print(f"{turn + 1}/{pairs}  {name}: {runs[name][-1]['wall']:.0f} s", file=sys.stderr)
    return {name: summary_of(PROGRAMS[name], runs[name], runs["fedmosaic"]) for name in names}


def summary_of(
    program: Program, runs: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return medians, ratios to fedmosaic's run of the same turn, and how equal the results are."""
    apart = [
        difference(own["weights"], other["weights"]) for own, other in zip(runs, base, strict=True)
    ]
    ratios = {
        figure: [own[figure] / other[figure] for own, other in zip(runs, base, strict=True)]
        for figure in FIGURES
    }
    return {
        "title": program.title,
        **{figure: round(statistics.median(r[figure] for r in runs), 2) for figure in FIGURES},
        "ratio": {figure: round(statistics.median(found), 2) for figure, found in ratios.items()},
        "lines": sum(lines_of_code(path) for path in program.files),
        "loss": [round(value, 5) for value in runs[0]["loss"]],
        "accuracy": [round(value, 2) for value in runs[0]["accuracy"]],
        "difference_of_weights": float(f"{max(apart):.1e}"),
    }


def publish(result: Mapping[str, Any]) -> None:
    """Write the result, its page, and table and text in the documentation."""
    write_result("peers", result, page(result))
    write_tables(result)
    print(page(result))


def main() -> None:
    """Prepare, run, compare, write."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--clients", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=3, help="turns (default: %(default)s)")
    parser.add_argument("--model", choices=MODELS, default="small", help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=list(PROGRAMS), help="programs to run")
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, and write no files"
    )
    parser.add_argument(
        "--table", action="store_true", help="only write page and text, from the last result"
    )
    options = parser.parse_args()
    if options.table:
        publish(read_result("peers"))
        return
    chosen = ["fedmosaic", *(n for n in options.only or PROGRAMS if n != "fedmosaic")]
    for name in chosen[:]:
        if reason := missing(PROGRAMS[name]):
            print(f"{name} is left out: {reason}", file=sys.stderr)
            chosen.remove(name)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        prepared = prepare(Path(folder), options.model, options.clients, options.rounds)
        rows = compare(prepared, chosen, options.pairs)
    result = {
        "command": "python -m benchmarks.peers.compare_peers "
        f"--rounds {options.rounds} --clients {options.clients} --pairs {options.pairs} "
        f"--model {options.model}",
        "setting": {"rounds": options.rounds, "clients": options.clients, "pairs": options.pairs},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "load_average": round(load, 1),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "programs": rows,
    }
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        publish(result)
    for name, row in rows.items():
        if row["difference_of_weights"] > LARGEST_DIFFERENCE:
            raise SystemExit(f"{name} did other work: its weights differ, see the result")


if __name__ == "__main__":
    main()
