"""Learn P by ridge, translate it, mask it, learn from few examples, and read what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from benchmarks.accuracy.transplant import PUBLIC, directions, load_models
from benchmarks.accuracy.transplant_model import ITEMS, RANK, Model, Pair, alignment_settings
from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.algorithms.common.moved import OTHER_PARTS
from fedmosaic.alignment import align
from fedmosaic.alignment.refinement import ModelTraces, PseudoTaskSet
from fedmosaic.alignment.transfer import (
    AnswerEffects,
    CoLoraFrame,
    kernel_ridge,
    record_effects,
    translate,
    translators,
)
from fedmosaic.evaluation.difference import by_difference, likeliest
from fedmosaic.miniature.benchmark.load import public_set

FEW = 16
PSEUDO_TASKS = 64
"""Pseudo-tasks whose moments give the translators; refinement itself uses 900."""
TEST = 50
"""Test items of each task."""
OWN, LACKING, MARGINS = "own targets", "lacking", "margins"
CLIENT_TASKS = 3
"""Tasks of which P is learned together in :data:`OF_CLIENT`, as a client with them would."""
OF_CLIENT = {
    **{f"{number} margins of a client": (number, 1.0) for number in (33, 48, 66, 129)},
    **{f"{number} margins, a P a task": (number, OTHER_PARTS) for number in (66, 129)},
}
"""Targets by name: how many examples three tasks have together, and the weight that those of other
tasks have in the P of a task. With weight 1 the three have one P."""
Solved = dict[tuple[str, float], Pair]
"""P, Q by targets and penalty."""


def frame_of(model: Model) -> CoLoraFrame:
    """Return the frame of a model of the benchmark."""
    return CoLoraFrame(model.sites, model.subspaces)


# --- ridge ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Ridge:
    """Hold what ridge learned from one kind of examples in one model.

    Attributes:
        pairs: P, Q of all tasks, by targets and penalty.
        few: for each task the effects of its first 16 examples.
    """

    pairs: Solved
    few: Sequence[AnswerEffects]

    @classmethod
    def learn(cls, model: Model, kind: str, wanted: Sequence[tuple[str, float]]) -> Ridge:
        """Record the effects of each task and learn P, Q with all wanted targets and penalties."""
        solved: dict[tuple[str, float], list[Tensor]] = {key: [] for key in wanted}
        few, margins = [], []
        for task in range(len(model.tasks)):
            places = range(task * ITEMS, (task + 1) * ITEMS)
            examples = [model.examples[kind][place] for place in places]
            effects = record_effects(model.backbone, frame_of(model), examples, batch_size=50)
            options = model.train[kind].options.shape[1]
            margins.append(margins_of(effects, options))
            own = {
                OWN: (effects.rows, effects.targets),
                LACKING: (effects.rows, lacking(model, kind, torch.tensor(places))),
                MARGINS: (margins[-1], torch.ones(ITEMS)),
            }
            for targets, penalty in solved:
                if targets in own:
                    solved[targets, penalty].append(kernel_ridge(*own[targets], penalty))
            first = FEW * options
            few.append(AnswerEffects(effects.rows[:first].clone(), effects.targets[:first]))
        for (targets, penalty), solutions in solved.items():
            if targets in OF_CLIENT:
                solutions += of_clients(margins, *OF_CLIENT[targets], penalty)
        return cls({key: pair_of(model, each) for key, each in solved.items()}, few)


def margins_of(effects: AnswerEffects, options: int) -> Tensor:
    """Return the rows of examples that have the same number of options.

    They are those of :func:`fedmosaic.alignment.transfer.record_margins`: effects of the options,
    weighted by the targets.
    """
    weighted = effects.targets[:, None] * effects.rows
    rows: Tensor = weighted.unflatten(0, (-1, options)).sum(1)
    return rows


def of_clients(
    margins: Sequence[Tensor], number: int, weight: float, penalty: float
) -> list[Tensor]:
    """Return a solution for each task, from the examples of all tasks of a client.

    Args:
        margins: rows of each task; each three tasks in a row are those of a client.
        number: examples of a client, equally many of each task.
        weight: of the examples of other tasks.
        penalty: of ridge.
    """
    found: list[Tensor] = []
    for first in range(0, len(margins), CLIENT_TASKS):
        of_tasks = margins[first : first + CLIENT_TASKS]
        few = number // CLIENT_TASKS
        rows = torch.cat([rows[:few] for rows in of_tasks])
        for task in range(len(of_tasks)):
            weights = torch.full((len(rows),), weight)
            weights[task * few : (task + 1) * few] = 1
            found.append(kernel_ridge(rows, torch.ones(len(rows)), penalty, weights=weights))
    return found


@torch.no_grad()
def lacking(model: Model, kind: str, places: Tensor) -> Tensor:
    """Return one-hot answers minus the zero-shot model's probabilities of the options, flat."""
    batch = model.train[kind][places]
    one_task = torch.zeros(len(model.sites), 1, RANK, RANK)
    logits = model.logits(batch, (one_task, one_task[..., 0])).gather(1, batch.options)
    right = torch.nn.functional.one_hot(batch.right, batch.options.shape[1])
    return (right - logits.softmax(1)).flatten()


def pair_of(model: Model, solutions: Sequence[Tensor]) -> Pair:
    """Return P [sites, tasks, r, r] and Q [sites, tasks, r] of one solution for each task."""
    split = [frame_of(model).split(solution) for solution in solutions]
    return stacked(
        model.sites,
        {name: torch.stack([own[name] for own in split]) for name in split[0]},
    )


def stacked(sites: Sequence[AdapterSite], tensors: Mapping[str, Tensor]) -> Pair:
    """Return P and Q of all sites as two tensors."""
    p, q = (torch.stack([tensors[f"{site.key}.{name}"] for site in sites]) for name in "PQ")
    return p, q


def flat(pair: Pair, task: int) -> Tensor:
    """Return P, Q of one task as one vector, in the order of the effects."""
    parts = zip(pair[0][:, task].flatten(1), pair[1][:, task], strict=True)
    return torch.cat([torch.cat(part) for part in parts])


# --- refined A and B, and translators -------------------------------------------------------------
@dataclass(frozen=True)
class Group:
    """Hold refined A and B of the three models of a pretraining.

    Attributes:
        pairs: A and B of each model.
        maps: translators by giver and receiver.
    """

    pairs: Sequence[Mapping[str, Tensor]]
    maps: Mapping[tuple[int, int], Mapping[str, Tensor]]


@cache
def refined_group(pretraining: int) -> Group:
    """Align the models as the benchmark does, and compute the translators of all directions."""
    backbones, settings = load_models(pretraining), alignment_settings("refined")
    public, placement = list(public_set(PUBLIC, 0)), settings.placement
    found = align(backbones, backbones[0], public, settings.alignment, placement)
    pairs = [{key: value.float() for key, value in one.tensors.items()} for one in found]
    fewer = alignment_settings("refined", refine={"pseudo_tasks": PSEUDO_TASKS})
    tasks = PseudoTaskSet.of(backbones[0], public, fewer.alignment)
    layers = [one.layers for one in found]
    traces = ModelTraces.record(tasks, backbones, layers, placement, 1, lambda *_: None)
    maps = {
        (giver, receiver): translators(traces.moments, pairs, giver, receiver)
        for _, giver, receiver in directions()
    }
    return Group(pairs, maps)


def translated(model: Model, pair: Pair, maps: Mapping[str, Tensor]) -> Pair:
    """Return P, Q of all tasks, translated for one direction."""
    tensors = {
        f"{site.key}.{name}": value[number]
        for number, site in enumerate(model.sites)
        for name, value in zip("PQ", pair, strict=True)
    }
    return stacked(model.sites, translate(tensors, maps))


# --- few labelled examples of the receiver --------------------------------------------------------
def masked(pair: Pair, few: Sequence[AnswerEffects]) -> Pair:
    """Clear the entries of P whose sign is not that of the gradient of a few labelled examples."""
    gradients = [effects.targets @ effects.rows for effects in few]
    agreeing = [
        torch.where(flat(pair, task) * gradient > 0, flat(pair, task), 0)
        for task, gradient in enumerate(gradients)
    ]
    return unflat(pair, agreeing)


def few_shot(few: Sequence[AnswerEffects], penalty: float, start: Pair) -> Pair:
    """Learn P, Q of all tasks from a few examples by ridge, from a given P, Q."""
    found = [
        kernel_ridge(effects.rows, effects.targets, penalty, flat(start, task))
        for task, effects in enumerate(few)
    ]
    return unflat(start, found)


def unflat(like: Pair, vectors: Sequence[Tensor]) -> Pair:
    """Return the inverse of :func:`flat` for all tasks, in the shape of another pair."""
    size = like[0][0, 0].numel()
    rows = torch.stack(list(vectors), 1).unflatten(0, (len(like[0]), -1)).transpose(1, 2)
    return rows[..., :size].reshape(like[0].shape), rows[..., size:].reshape(like[1].shape)


def times(pair: Pair, scale: float) -> Pair:
    """Return P, Q times a number."""
    return pair[0] * scale, pair[1] * scale


def average(*pairs: Pair) -> Pair:
    """Return the average of several P, Q."""
    p, q = (torch.stack(each).mean(0) for each in zip(*pairs, strict=True))
    return p, q


# --- reading --------------------------------------------------------------------------------------
@torch.no_grad()
def option_logits(model: Model, pair: Pair) -> Tensor:
    """Return the logits of the options of all test items with each task's P, Q."""
    batch = model.test[test_rows(model)]
    return model.logits(batch, pair).gather(1, batch.options)


def test_rows(model: Model) -> Tensor:
    """Return the places of the first test items of each task."""
    return torch.arange(len(model.test.right)).view(len(model.tasks), -1)[:, :TEST].flatten()


def accuracy(
    model: Model, logits: Tensor, zero: Tensor, reading: str, factor: float | None = None
) -> list[float]:
    """Return the accuracy of each task.

    Args:
        model: the receiver.
        logits: f_P of the options.
        zero: f_0.
        reading: ``plain``, ``difference`` or ``amplified``.
        factor: k of ``amplified``.
    """
    found = logits.tolist()
    if reading != "plain":
        found = by_difference(found, zero.tolist(), factor if reading == "amplified" else None)
    right = model.test.right[test_rows(model)]
    hits = torch.tensor(likeliest(found)).eq(right).float().view(len(model.tasks), -1)
    return [round(value, 4) for value in hits.mean(1).tolist()]
