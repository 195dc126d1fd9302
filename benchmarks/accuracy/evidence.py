"""Compare every algorithm at equal compute, and FedMosaic with one thing changed.

Each part is one command. It continues where it stopped, on any machine, and can be killed at any
time: the figures of a run are stored in results/evidence/<part>.json when the run is finished.

  python -m benchmarks.accuracy.evidence static         a client's tasks are mixed
  python -m benchmarks.accuracy.evidence dynamic        they come one after another
  python -m benchmarks.accuracy.evidence homogeneous    mixed, all clients have one architecture
  python -m benchmarks.accuracy.evidence unmatched      static with equal steps, not equal compute
  python -m benchmarks.accuracy.evidence language       two pretrained language models, some rows
  python -m benchmarks.accuracy.evidence static --only sft fedavg --seeds 0 1 --minutes 30
  python -m benchmarks.accuracy.evidence static --status
  python -m benchmarks.accuracy.evidence static --merge /elsewhere/static.json
  python -m benchmarks.accuracy.evidence_table          shows what is finished; --publish writes it

Time on two cores: static five hours, dynamic five, homogeneous three, language three,
unmatched (after static, with which it shares runs) one and a half. One run, in seconds of one core
that does nothing else: local training 135, additive 140, pooled 285, where all clients have one
architecture 95, 125 (FedMosaic) and 85, with experts 155 to 170. Each row runs with all its seeds,
the main ones first.
``--keep-runs`` keeps the run folders, ``--replace`` also runs what is finished.

Each run is measured as several views: ``mixed`` (the model that a client uses), ``global`` (what it
received), ``routed`` (mixed for inputs like the client's own training prompts, else global); local
training also as ``base`` (zero-shot) and ``routed-base``; algorithms with experts also as their
controls. Routing changes no training, so one run gives the rows with and without it.

``pooled`` trains an adapter of each architecture on the data of all clients, ``pooled-group`` on
that of a group: oracles outside every budget, which show how much there is to win.

Scenarios: miniature/hetero, miniature/dynamic and miniature/homo-llama, eight rounds. Every
algorithm gets the local steps that cost what 12 steps of local training cost (``budget: flops``,
counted); in the part ``unmatched`` every algorithm has 12 steps. Seeds 0, 1, 2 use the first
pretraining of the bundled models, seeds 3 and 4 the second.

The part ``language`` has reference/hetero: SmolLM2 135M and Gemma 3 270M on text tasks, with that
scenario's adapters, alignment and eight rounds, and base models in bfloat16. It needs the packages
that the scenario names. A run takes some minutes of a core that multiplies bfloat16, else ten.

Learning rates: in each part every algorithm chooses its own, by the mean of Self and Others on a
validation split of the training data, with two seeds of their own and on the first pretraining. It
tries 2e-3, 4e-3 and 8e-3 (``language``: 2.5e-4, 5e-4 and 1e-3); while the best is the lowest or the
highest so far, it also tries half or twice of it. FedMosaic's variants use the rate that FedMosaic
chose, and ``unmatched`` uses the rates of ``static``.

An earlier comparison had many rows of ``static``. They keep the rates that they chose in it, with
one seed and without going on at the edge, and their runs where no further view is asked for. Runs
that were made anew gave the same figures to the last digit.

Some runs of ``dynamic`` are those of an earlier comparison: where the same rate was chosen and no
further view is asked for.

FedMosaic is configured as in miniature/cross-family: Co-LoRA (rank 64) on o_proj of eight layers,
A and B refined jointly, ordinary LoRA elsewhere. The row "as published" has the paper's form:
Co-LoRA on all projections of the last layer of each of two blocks, A and B aligned by the closed
form on output gradients.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.evidence_parts import ALL_SEEDS, PARTS
from benchmarks.accuracy.evidence_rows import EvidenceRow, rows_of_part
from benchmarks.accuracy.evidence_runs import run_rows
from benchmarks.accuracy.evidence_store import PartStore
from benchmarks.common.arguments import add_run_arguments, benchmark_parser


def status(store: PartStore, rows: Sequence[EvidenceRow]) -> str:
    """Return a line for each row: its learning rate, and the seeds that are finished."""
    lines = []
    for row in rows:
        chosen = store.chosen(row)
        runs = {seed: store.standing(row, seed) for seed in ALL_SEEDS} if chosen else {}
        done = [str(seed) for seed, run in runs.items() if run and "failed" not in run]
        failed = [str(seed) for seed, run in runs.items() if run and "failed" in run]
        seeds = f"seeds {' '.join(done) or '-'}" + (f", failed {' '.join(failed)}" * bool(failed))
        rate = chosen[0].partition("=")[2] if chosen else "not chosen"
        lines.append(f"{row.label:40} rate {rate:12} {seeds}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and run what is missing."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--only", nargs="+", metavar="LABEL", help="only these rows")
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        choices=ALL_SEEDS,
        default=ALL_SEEDS,
        help="only these seeds",
    )
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--keep-runs", action="store_true", help="keep the folders of runs")
    parser.add_argument(
        "--replace", action="store_true", help="also run what is finished, as after a changed code"
    )
    parser.add_argument(
        "--merge", type=Path, metavar="FILE", help="only add the runs of another machine's file"
    )
    parser.add_argument("--status", action="store_true", help="only list what is finished")
    add_run_arguments(parser, "runs/evidence", jobs=2, table=False)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    store, rows = PartStore(arguments.part), rows_of_part(arguments.part)
    known = [row.label for row in rows]
    if unknown := [label for label in arguments.only or () if label not in known]:
        parser.error(
            f"--only {unknown[0]!r}: the {arguments.part} part has no such row; it has "
            f"{', '.join(map(repr, known))}"
        )
    rows = [row for row in rows if row.label in (arguments.only or known)]
    if arguments.merge:
        store.file.merge(json.loads(arguments.merge.read_text()))
    if arguments.status or arguments.merge:
        print(status(store, rows))
        return
    deadline = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    finished = run_rows(
        store,
        rows,
        arguments.seeds,
        arguments.runs,
        parallel=arguments.jobs,
        deadline=deadline,
        keep=arguments.keep_runs,
        replace=arguments.replace,
    )
    print("finished" if finished else "stopped, since the time is over; the same command continues")


if __name__ == "__main__":
    main()
