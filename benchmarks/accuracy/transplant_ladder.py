"""Measure how a P that moves to another architecture is best learned, translated and read.

  python -m benchmarks.accuracy.transplant_ladder --choose --job 0 --job 1 --job 2 --job 3 --job 4
  python -m benchmarks.accuracy.transplant_ladder_table

Takes one thread and about 4 minutes a job. Models, tasks, jobs, refined A and B, and the scores are
those of :mod:`benchmarks.accuracy.transplant`, of which this is the second part, with 50 test items
of a task. A row is

  learner    Adam, as there, or ridge (:mod:`fedmosaic.alignment.transfer`)
  forward    with it, P is translated for the pair of models by regression
  reading    plain (f_P), difference (f_P − f_0) or amplified (f_0 + k (f_P − f_0), with the P of
             the difference); f are the logits of the options

and, with the choices of the row *ridge, difference* unless it says otherwise:

  lacking    ridge whose targets are what the zero-shot model lacks (one-hot − softmax)
  margins    ridge with one row an example, its margin, as ``fedmosaic-experts`` learns P
  of client  P of the three near tasks together and of the three far, from 33 to 129 margins: one
             for all three, or one for each, in which the other tasks' examples have weight 0.3
  gradient   ridge with a penalty of 10⁶: the direction of the first gradient step
  sum        differences of both givers, added
  average    P of both givers, averaged (Adam, plain)
  with own   P of both givers and the receiver's own, averaged (Adam, plain)
  mask       entries of P whose sign disagrees with the gradient of 16 labelled examples of the
             receiver are zero (Adam, plain; ridge, difference)

*Relabelled* is the control: P of a task with the same images, question and words, in which the
words stand for other things. With 16 labelled examples of the receiver (*few*): 15 steps of Adam
from zero (cold), from the P of Adam and from the P of ridge, read plainly; and ridge on them from
zero and from the P of ridge, read by difference.

Scales, penalties and k are chosen on two other tasks under another seed
(``--choose``). Writes results/transplant_ladder/<job>.json.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.accuracy.transplant import (
    CHOOSE,
    CHOOSING_SEED,
    FAR,
    JOBS,
    MODELS,
    NEAR,
    directions,
    mean,
)
from benchmarks.accuracy.transplant_model import RELABELLED
from benchmarks.accuracy.transplant_moves import LACKING, MARGINS, OF_CLIENT, OWN
from benchmarks.accuracy.transplant_rows import (
    GRADIENT,
    Choice,
    Ladder,
    few_rows,
    lead_rows,
    row_name,
    trained_rows,
)
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import read_result, write_result

LEARNERS, READINGS = ("adam", "ridge"), ("plain", "difference", "amplified")
ROWS = tuple(
    (learner, forward, reading)
    for learner, forward, reading in itertools.product(LEARNERS, (False, True), READINGS)
    if not (forward and reading == "amplified")
)
SCALES = {"adam": (0.25, 0.5, 1.0, 2.0, 4.0), "ridge": (1.0, 4.0, 16.0)}
PENALTIES = {"adam": (0.0,), "ridge": (1.0, 3.0, 10.0)}
FACTORS = (3.0, 10.0, 30.0)
FEW_SCALES = (1.0, 4.0)


# --- choosing -------------------------------------------------------------------------------------
def choose() -> dict[str, Any]:
    """Choose scale and penalty of each row, and of the few-shot rows, on two other tasks."""
    wanted = [(OWN, penalty) for penalty in PENALTIES["ridge"]]
    ladder = Ladder(0, CHOOSE, CHOOSING_SEED, {"own": wanted})
    chosen: dict[str, Any] = {}
    for learner, forward, reading in ROWS:
        options: list[dict[str, Any]] = [
            {"forward": forward, "penalty": penalty, "scale": scale}
            for penalty, scale in itertools.product(PENALTIES[learner], SCALES[learner])
        ]
        if reading == "amplified":  # the P of the difference, read with another factor
            base = chosen[row_name(learner, forward, "difference")]
            options = [{**base, "factor": factor} for factor in FACTORS]
        scores = [
            mean([ladder.score(a, b, learner, "own", choice, reading) for _, a, b in directions()])
            for choice in options
        ]
        name = row_name(learner, forward, reading)
        chosen[name] = options[scores.index(max(scores))]
        print(name, chosen[name], [round(score, 3) for score in scores], flush=True)
    best = chosen["ridge, difference"]
    warm = {
        scale: mean(list(few_rows(ladder, {**best, "scale": scale})["ridge, warm"].values()))
        for scale in FEW_SCALES
    }
    chosen["few"] = {**best, "scale": max(warm, key=warm.__getitem__)}
    print("few", chosen["few"], warm, flush=True)
    return chosen


# --- rows -----------------------------------------------------------------------------------------
def main_rows(ladder: Ladder, chosen: Mapping[str, Choice]) -> dict[str, Any]:
    """Return the accuracies of all rows of learner, forward and reading, and of their control.

    Rows with *forward* have no control.
    """
    found: dict[str, Any] = {}
    for learner, forward, reading in ROWS:
        row = row_name(learner, forward, reading)
        found[row] = {
            kind: {
                name: ladder.score(giver, receiver, learner, kind, chosen[row], reading)
                for name, giver, receiver in directions()
            }
            for kind in (("own",) if forward else ("own", RELABELLED))
        }
    return found


def run_job(pretraining: int, seed: int, chosen: Mapping[str, Choice]) -> dict[str, Any]:
    """Return the accuracies of all rows with one seed on one pretraining."""
    penalties = sorted({choice["penalty"] for choice in chosen.values()} - {0.0})
    best = chosen["ridge, difference"]["penalty"]
    control = [(OWN, penalty) for penalty in penalties]
    leads = [(OWN, GRADIENT), *((targets, best) for targets in (LACKING, MARGINS, *OF_CLIENT))]
    wanted = {"own": [*control, *leads], RELABELLED: control}
    ladder = Ladder(pretraining, (*NEAR, *FAR), seed, wanted)
    home = [each.pairs[OWN, best] for each in ladder.ridge["own"]]
    found: dict[str, Any] = {
        "pretraining": pretraining,
        "seed": seed,
        "zero": {n: ladder.read(i, ladder.zero[i], "plain") for i, n in enumerate(MODELS)},
        "own": ladder.by_model(ladder.adam["own"]),
        "own, ridge": ladder.by_model(home, "difference"),
        "rows": main_rows(ladder, chosen),
        "leads": lead_rows(ladder, chosen),
        "few": {**trained_rows(ladder, chosen), **few_rows(ladder, chosen["few"])},
    }
    short = {name: round(mean(list(row["own"].values())), 3) for name, row in found["rows"].items()}
    print(pretraining, seed, json.dumps(short), flush=True)
    return found


def main() -> None:
    """Choose scales and penalties if asked to, then run the jobs."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--choose", action="store_true", help="choose scales and penalties first")
    parser.add_argument(
        "--job",
        type=int,
        action="append",
        default=[],
        choices=range(len(JOBS)),
        help="run this job; can be given several times",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.choose:
        write_result("transplant_ladder/chosen", choose())
    chosen = read_result("transplant_ladder/chosen")
    for number in arguments.job:
        write_result(f"transplant_ladder/{number}", run_job(*JOBS[number], chosen))


if __name__ == "__main__":
    main()
