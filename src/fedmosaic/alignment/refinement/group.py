"""Refine a group of models jointly; a later model is fitted without changing existing members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment.common import Progress, Result, Subspaces
from fedmosaic.alignment.refinement.closed_form import GroupMoments
from fedmosaic.alignment.refinement.pseudo_tasks import PseudoTaskSet
from fedmosaic.alignment.refinement.strength import (
    agreement,
    balance,
    condition,
    limit_condition,
    strengths,
)
from fedmosaic.alignment.refinement.traces import Traces, image_places, record_traces
from fedmosaic.alignment.refinement.transplant import transplant_accuracy
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator

_PURPOSE = "refinement", "strangers"  # names the draw; published runs depend on it


@dataclass(frozen=True)
class ModelTraces:
    """Hold the traces of several models on all pseudo-tasks.

    Attributes:
        models: the models; the pivot is the first of a group, or the second after a joining model.
        layers: block ends of each model.
        placement: roles of the adapted modules at block ends.
        moments: moments of all fitted pseudo-tasks.
        in_memory: for each model its traces on the first fitted pseudo-tasks.
        held_out: for each model its traces on the held-out pseudo-tasks.
    """

    models: Sequence[Backbone]
    layers: Sequence[Sequence[int]]
    placement: Placement
    moments: GroupMoments
    in_memory: Sequence[Sequence[Traces]]
    held_out: Sequence[Sequence[Traces]]

    @classmethod
    def record(
        cls,
        tasks: PseudoTaskSet,
        models: Sequence[Backbone],
        layers: Sequence[Sequence[int]],
        placement: Placement,
        in_memory: int,
        progress: Progress,
    ) -> ModelTraces:
        """Record all pseudo-tasks in all models.

        Args:
            tasks: the pseudo-tasks.
            models: the models.
            layers: block ends of each model.
            placement: roles of the adapted modules at block ends.
            in_memory: number of fitted pseudo-tasks whose traces are kept.
            progress: called after each pseudo-task.
        """
        sites = [placement.sites(own) for own in layers]
        moments = GroupMoments()
        first: list[list[Traces]] = [[] for _ in models]
        held_out: list[list[Traces]] = [[] for _ in models]
        together = [*tasks.fitted, *tasks.held_out]
        for number, task in enumerate(together):
            found = [
                record_traces(model, own, task, places=places)
                for model, own, places in zip(
                    models, sites, image_places(models, task.examples), strict=True
                )
            ]
            fitted = number < len(tasks.fitted)
            if fitted:
                moments.update(found)
            if number < in_memory or not fitted:
                for traces, own_traces in zip(first if fitted else held_out, found, strict=True):
                    traces.append(own_traces)
            progress("recording pseudo-tasks", number + 1, len(together))
        for model, own in zip(models, first, strict=True):
            _check_sites(model.name, own)
        return cls(models, layers, placement, moments, first, held_out)


def _check_sites(model: str, traces: Sequence[Traces]) -> None:
    """Raise ModelError for a site where a P of one could not change any choice."""
    for key in traces[0].x:
        ends = [trace.x[key][:, -1] for trace in traces]
        if all(bool((rows == rows[:1]).all()) for rows in ends):
            what = "inputs are the same in all examples, as in a model's first layer,"
        elif not any(bool(trace.g[key][:, :, -1].any()) for trace in traces):
            what = "output gradients are all zero, as where all answers begin with one token,"
        else:
            continue
        raise ModelError(
            f"refining {model} at {key}: at the token that predicts the answer its {what} so "
            "nothing can be learned there. Lower num_blocks, so that no block ends there, share "
            "other modules, such as o_proj and down_proj, or align without refinement"
        )


def refine_group(
    traces: ModelTraces, tasks: PseudoTaskSet, placement: Placement, seed: int
) -> list[Result]:
    """Refine A and B of all models together.

    Args:
        traces: of the models; the first is the pivot.
        tasks: the pseudo-tasks that were recorded.
        placement: rank and modules.
        seed: seed of the report's random controls.

    Returns:
        for each model A and B and their report.

    Raises:
        DataError: a layer is narrower than the rank.
    """
    solved = traces.moments.solve_group(placement.r)
    return _finish(traces, tasks, solved, [True] * len(solved), seed)


def refine_joining_model(
    traces: ModelTraces, tasks: PseudoTaskSet, pivot_pair: Subspaces, seed: int
) -> Result:
    """Refine A and B of one model, so that a P works in it as in the pivot.

    Args:
        traces: of the joining model and of the pivot, in this order.
        tasks: the pseudo-tasks that were recorded.
        pivot_pair: A and B of the pivot, which stay as they are.
        seed: seed of the report's random controls.
    """
    solved = [traces.moments.solve_joining(pivot_pair), dict(pivot_pair)]
    return _finish(traces, tasks, solved, [True, False], seed)[0]


def _finish(
    traces: ModelTraces,
    tasks: PseudoTaskSet,
    solved: Sequence[dict[str, Tensor]],
    free: Sequence[bool],
    seed: int,
) -> list[Result]:
    """Set the strength of the solved A and B and report on them, beside random ones.

    Args:
        traces: of the models.
        tasks: the pseudo-tasks.
        solved: A and B of each model.
        free: which models' A and B may change.
        seed: seed of the random A and B.
    """
    random = [
        _random_like(pair, seed, number) if changes else pair
        for number, (pair, changes) in enumerate(zip(solved, free, strict=True))
    ]
    before, after = (_set_strength(pairs, traces.in_memory, free) for pairs in (random, solved))
    scores = [
        TransplantScores(
            transplant_accuracy(pairs, traces.held_out, tasks.held_out, seed),
            agreement(pairs, traces.held_out),
        )
        for pairs in (before, after)
    ]
    return [
        (pair, _report(traces, number, scores, condition(pair)))
        for number, pair in enumerate(after)
    ]


def _random_like(pair: Subspaces, seed: int, number: int) -> dict[str, Tensor]:
    """Draw random A and B of the same shapes."""
    draw = generator(*_PURPOSE, seed, number)
    return {key: torch.randn(value.shape, generator=draw) for key, value in pair.items()}


def _set_strength(
    pairs: Sequence[Subspaces], traces: Sequence[Sequence[Traces]], free: Sequence[bool]
) -> list[dict[str, Tensor]]:
    """Limit condition numbers and set the strength of every site.

    A site's strength is in proportion to the models' agreement there. With one fixed model, it is
    exactly the strength of that model's site.
    """
    changed = [
        limit_condition(pair) if changes else dict(pair)
        for pair, changes in zip(pairs, free, strict=True)
    ]
    fixed = [pair for pair, changes in zip(changed, free, strict=True) if not changes]
    shares = strengths(fixed[0], traces[free.index(False)]) if fixed else agreement(changed, traces)
    return [
        balance(pair, own, shares, exactly=bool(fixed)) if changes else pair
        for pair, own, changes in zip(changed, traces, free, strict=True)
    ]


@dataclass(frozen=True)
class TransplantScores:
    """Hold the quality of a group's A and B on held-out pseudo-tasks.

    Attributes:
        right: for each pair (a, b) of models how often a P learned in a chooses right in b.
        agreement: for each site, as :func:`~fedmosaic.alignment.refinement.strength.agreement`.
    """

    right: Mapping[tuple[int, int], float]
    agreement: Mapping[str, float]


def _report(
    traces: ModelTraces, number: int, scores: Sequence[TransplantScores], condition: float
) -> dict[str, Any]:
    """Report on one model: scores with random A and B of equal strength, and with the refined."""
    before, after = scores
    own_sites, pivot_sites = (traces.placement.sites(traces.layers[n]) for n in (number, 0))
    lines = [
        {
            "block": own.block,
            "module": own.module,
            "layer": own.layer,
            "pivot_layer": other.layer,
            "agreement_before": before.agreement[own.key],
            "agreement_after": after.agreement[own.key],
        }
        for own, other in zip(own_sites, pivot_sites, strict=True)
    ]
    others = {
        giver.name: [score.right[index, number] for score in scores]
        for index, giver in enumerate(traces.models)
        if index != number
    }
    own_scores = [score.right[number, number] for score in scores]
    return {
        "sites": lines,
        "refinement": {"own": own_scores, "from": others, "condition": condition},
    }
