"""Test whether P, Q that one model learned for a task do that task in another architecture.

  python -m benchmarks.accuracy.transplant --choose --job 0 --job 1 --job 2 --job 3 --job 4
  python -m benchmarks.accuracy.transplant_table

Takes one thread and about 15 minutes a job; jobs can run side by side. A job is one seed of data
and training on one pretraining of the bundled models. A and B are the same in all jobs of a
pretraining.

Each of three models learns each task (80 steps of 4 examples; P, Q alone are trained) and gives
its P, Q to the two other models, which are not trained: six directions. This is done for every
way of choosing A and B (the *variant*: random, aligned to outputs, aligned to output gradients,
refined). All variants use the same sites (o_proj of 8 layers, rank 64), the same strength (as
refinement scales its own) and the same public data. Scores are accuracies on 100 test items,
decided by the first tokens of the options.

Tasks (no pseudo-task of the refinement is of any of these families):

  near   about things that the public images show: colours, shapes, counts
  far    about things that they do not show (unknown symbols), or with a kind of question that
         nobody asked about them (what comes between two images)

Scores of a variant:

  transferred   P, Q of another model
  relabelled    control: the same with P, Q of a task that has the same images, question and answer
                words, but where the words stand for other things
  own           the receiver's own training at the variant's learning rate: the ceiling
  best          the receiver's own training at the rate that suits it best
  warm          15 steps of training on 20 examples, from the transferred P, Q
  cold          15 steps of training on 20 examples, from zero
  cosine        similarity of the two models' P for the same task

The learning rate, the kind of second moment and the scale of transferred P, Q are chosen for each
variant on two other tasks under another seed (``--choose``). Writes results/transplant/<job>.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from benchmarks.accuracy.transplant_model import (
    RANK,
    RELABELLED,
    Model,
    alignment_settings,
)
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import RESULTS, read_result, write_result
from fedmosaic.alignment import align
from fedmosaic.alignment.closed_form.pivot import random_subspaces
from fedmosaic.alignment.refinement import PseudoTaskSet
from fedmosaic.alignment.refinement.strength import agreement, balance
from fedmosaic.alignment.refinement.traces import record_traces
from fedmosaic.miniature.benchmark.load import public_set
from fedmosaic.models.backbone import Backbone

MODELS = ("llama-8x96", "qwen2-10x112", "llama-12x128")  # the first is the pivot
NEAR = ("wardrobe-0", "quality-0", "icon-0")
FAR = ("cuisine-0", "cuisine-3", "cloze-0")
CHOOSE = ("stages-0", "idiom-3")
VARIANTS = ("random", "outputs", "gradients", "refined")
JOBS = ((0, 0), (0, 1), (0, 2), (1, 3), (1, 4))  # pretraining, seed
CHOOSING_SEED = 1000
WARM: dict[str, Any] = {"steps": 15, "items": 20}
RATES = ((0.003, "tensor"), (0.01, "tensor"), (0.003, "entry"))
SCALES = (1.0, 2.0, 3.0, 4.0)
PUBLIC = 1500
FOLDER = RESULTS / "transplant"


def load_models(pretraining: int) -> list[Backbone]:
    """Return the three bundled models of a pretraining."""
    suffix = f"@{pretraining}" if pretraining else ""
    return [Backbone.load(f"miniature/{name}{suffix}") for name in MODELS]


def directions() -> Iterator[tuple[str, int, int]]:
    """Yield the name, the giver and the receiver of every direction."""
    for giver, receiver in permutations(range(len(MODELS)), 2):
        yield f"{MODELS[giver]} -> {MODELS[receiver]}", giver, receiver


def subspaces(models: Sequence[Model], variant: str) -> tuple[list[dict[str, Tensor]], list[Any]]:
    """Return A and B of every model, and what alignment reports of them.

    Pairs that are not refined are scaled to the strength that refinement gives its own.
    """
    backbones = [model.backbone for model in models]
    public = list(public_set(PUBLIC, 0))
    reports: list[Any] = [None] * len(models)
    if variant == "random":
        pairs = [random_subspaces(model.backbone, model.sites, RANK, 0) for model in models]
    else:
        settings = alignment_settings(variant)
        aligned = align(backbones, backbones[0], public, settings.alignment, settings.placement)
        pairs = [dict(one.tensors) for one in aligned]
        reports = [dict(one.report) for one in aligned]
    pairs = [{key: value.float() for key, value in pair.items()} for pair in pairs]
    if variant == "refined":
        return pairs, reports
    settings = alignment_settings("refined", refine={"pseudo_tasks": 20})
    tasks = PseudoTaskSet.of(backbones[0], public, settings.alignment).fitted
    traces = [
        [record_traces(model.backbone, model.sites, task) for task in tasks] for model in models
    ]
    shares = agreement(pairs, traces)
    return [balance(pair, own, shares) for pair, own in zip(pairs, traces, strict=True)], reports


def choose() -> dict[str, Any]:
    """Choose rate, moment and scale for each variant on two other tasks.

    Returns:
        By variant the choice with the highest accuracy of transferred P, Q (``transferred``), that
        with the highest accuracy of the model's own training (``best``), and both accuracies.
    """
    models = [Model(backbone, CHOOSE, CHOOSING_SEED) for backbone in load_models(0)]
    chosen: dict[str, Any] = {}
    for variant in VARIANTS:
        for model, pair in zip(models, subspaces(models, variant)[0], strict=True):
            model.subspaces = pair
        transferred, own = {}, {}
        for rate, moment in RATES:
            choice = {"rate": rate, "moment": moment}
            learned = [model.learn("own", choice, CHOOSING_SEED) for model in models]
            own[rate, moment] = mean(
                [model.accuracy(pair) for model, pair in zip(models, learned, strict=True)]
            )
            for scale in SCALES:
                transferred[rate, moment, scale] = mean(
                    [models[to].accuracy(learned[giver], scale) for _, giver, to in directions()]
                )
        rate, moment, scale = max(transferred, key=transferred.__getitem__)
        best_rate, best_moment = max(own, key=own.__getitem__)
        chosen[variant] = {
            "transferred": {"rate": rate, "moment": moment, "scale": scale},
            "best": {"rate": best_rate, "moment": best_moment},
            "accuracy": {
                "transferred": transferred[rate, moment, scale],
                "best": own[best_rate, best_moment],
            },
        }
        print(variant, json.dumps(chosen[variant]), flush=True)
    return chosen


def mean(rows: Sequence[Sequence[float]]) -> float:
    """Return the mean over all values of all rows."""
    return sum(map(sum, rows)) / sum(map(len, rows))


def run_variant(
    models: Sequence[Model], seed: int, choice: Mapping[str, Any], best: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the scores of one variant, whose A and B the models have.

    Args:
        models: the models.
        seed: seed of training.
        choice: rate, moment and scale chosen for transferred P, Q.
        best: rate and moment that suit the models' own training best.
    """
    learned = {
        which: [model.learn(which, choice, seed) for model in models]
        for which in ("own", RELABELLED)
    }
    same = all(best[key] == choice[key] for key in ("rate", "moment"))
    most = learned["own"] if same else [model.learn("own", best, seed) for model in models]
    named = list(zip(MODELS, models, strict=True))
    lines: dict[str, Any] = {
        "own": {n: m.accuracy(p) for (n, m), p in zip(named, learned["own"], strict=True)},
        "best": {n: m.accuracy(p) for (n, m), p in zip(named, most, strict=True)},
        "cold": {n: m.accuracy(m.learn("own", choice, seed, **WARM)) for n, m in named},
        "transferred": {},
        RELABELLED: {},
        "warm": {},
        "cosine": {},
    }
    for name, giver, receiver in directions():
        model, scale = models[receiver], choice["scale"]
        p, q = learned["own"][giver]
        start = (p * scale, q * scale)
        lines["transferred"][name] = model.accuracy((p, q), scale)
        lines[RELABELLED][name] = model.accuracy(learned[RELABELLED][giver], scale)
        lines["warm"][name] = model.accuracy(model.learn("own", choice, seed, start=start, **WARM))
        own_p = learned["own"][receiver][0]
        similar = torch.nn.functional.cosine_similarity(
            p.transpose(0, 1).flatten(1), own_p.transpose(0, 1).flatten(1)
        )
        lines["cosine"][name] = [round(value, 4) for value in similar.tolist()]
    return lines


def run_job(pretraining: int, seed: int, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of all variants with one seed on one pretraining."""
    tasks = (*NEAR, *FAR)
    models = [Model(backbone, tasks, seed) for backbone in load_models(pretraining)]
    named = list(zip(MODELS, models, strict=True))
    found: dict[str, Any] = {
        "pretraining": pretraining,
        "seed": seed,
        "tasks": tasks,
        "variants": {},
        "zero": {name: model.accuracy(model.zero()) for name, model in named},
    }
    for variant in VARIANTS:
        pairs, reports = subspaces(models, variant)
        for model, pair in zip(models, pairs, strict=True):
            model.subspaces = pair
        choice, best = chosen[variant]["transferred"], chosen[variant]["best"]
        lines = run_variant(models, seed, choice, best)
        scores = {name: round(mean(list(each.values())), 3) for name, each in lines.items()}
        print(pretraining, seed, variant, scores, flush=True)
        if variant == "refined":
            lines["refinement"] = {
                name: report["refinement"] for name, report in zip(MODELS, reports, strict=True)
            }
        found["variants"][variant] = lines
    return found


def main() -> None:
    """Choose the rates if asked to, then run the jobs."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--choose", action="store_true", help="choose rates and scales first")
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
        write_result("transplant/chosen", choose())
    chosen = read_result("transplant/chosen")
    for number in arguments.job:
        write_result(f"transplant/{number}", run_job(*JOBS[number], chosen))


if __name__ == "__main__":
    main()
