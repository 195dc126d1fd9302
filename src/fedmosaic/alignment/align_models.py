"""Align any number of models to one pivot: the entry of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment.closed_form.fit import Fitting
from fedmosaic.alignment.closed_form.observe import observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.common import Progress, Result
from fedmosaic.alignment.correspondence.layer_cka import layer_cka
from fedmosaic.alignment.correspondence.layers import cka_monotone_matching, cka_report
from fedmosaic.alignment.group_store import find_group, load_group
from fedmosaic.alignment.identity import Identity, identity_settings
from fedmosaic.alignment.refinement import (
    ModelTraces,
    PseudoTaskSet,
    refine_group,
    refine_joining_model,
)
from fedmosaic.alignment.store import Alignment, find_alignment, save_alignment
from fedmosaic.config import AlignmentSettings, RefineSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone


def align(
    models: Sequence[Backbone],
    pivot: Backbone,
    examples: Sequence[Example],
    settings: AlignmentSettings,
    placement: Placement,
    progress: Progress | None = None,
) -> list[Alignment]:
    """Compute A and B of some models that have the pivot's meaning, from public examples alone.

    In closed form, every model is aligned independently: adding a model changes no other. With
    ``settings.refine`` all models are refined together, and ``settings.refine.join`` adds a model
    later without changing the existing ones.

    A stored alignment of the same identity (weights, public data, settings, placement and, with
    refinement, group) is taken from the package or the cache. New ones are saved in the cache.

    Args:
        models: any number of models; the pivot may be among them and keeps its own pair.
        pivot: the model to which the others are aligned.
        examples: public examples.
        settings: how to align.
        placement: rank, blocks and modules of the shared adapters.
        progress: called with each stage's name, finished items and all items.

    Returns:
        one alignment for each model, in order.

    Raises:
        DataError: no public examples, no common text, or too few tokens for the rank.
        ModelError: a model has fewer layers than blocks.
        CheckpointError: a stored alignment is damaged, or ``settings.refine.join`` holds no refined
            alignment of this pivot.
    """
    if not examples:
        raise DataError(
            "alignment needs public examples; name some as data.public, or set "
            "alignment.method=none"
        )
    job = _Job(pivot, examples, settings, placement, progress or (lambda *_: None))
    if settings.refine is None:
        return _align_each(job, models)
    if settings.refine.join is None:
        return _align_together(job, models, settings.refine)
    return _join(job, models, settings.refine)


@dataclass(frozen=True)
class _Job:
    """Hold the arguments of :func:`align` that all models share."""

    pivot: Backbone
    examples: Sequence[Example]
    settings: AlignmentSettings
    placement: Placement
    progress: Progress

    def identity(self, model: Backbone, **more: Any) -> Identity:
        """Return the identity of a model's alignment, with further settings ``more``."""
        counted = identity_settings(self.settings, self.placement)
        return Identity.of(model, self.pivot, self.examples, {**counted, **more})

    def block_ends(self, model: Backbone) -> tuple[int, ...]:
        """Return the model's block ends by depth."""
        return self.placement.block_ends(model.num_layers)

    def record(
        self,
        tasks: PseudoTaskSet,
        models: Sequence[Backbone],
        layers: Sequence[Sequence[int]],
        refine: RefineSettings,
    ) -> ModelTraces:
        """Record the pseudo-tasks in the models."""
        return ModelTraces.record(
            tasks, models, layers, self.placement, refine.in_memory, self.progress
        )


def _save(
    identity: Identity, result: Result, layers: Sequence[int], *, scaled: bool = False
) -> Alignment:
    """Save a new alignment in the cache and return it."""
    tensors, report = result
    made = Alignment(tensors, identity, tuple(layers), scaled, report)
    save_alignment(made)
    return made


# --- in closed form, each model for itself ------------------------------------------------------
def _align_each(job: _Job, models: Sequence[Backbone]) -> list[Alignment]:
    identities = [job.identity(model) for model in models]
    stored = [find_alignment(identity) for identity in identities]
    missing = [number for number, one in enumerate(stored) if one is None]
    if missing:
        fresh = _closed_form(job, [models[number] for number in missing])
        for number, (result, layers) in zip(missing, fresh, strict=True):
            stored[number] = _save(identities[number], result, layers)
    return [one for one in stored if one is not None]


def _closed_form(job: _Job, models: Sequence[Backbone]) -> list[tuple[Result, tuple[int, ...]]]:
    """Pass over the examples once, with all models side by side, and solve for A and B.

    Returns:
        for each model its A, B and report, and its block ends.
    """
    pivot, examples, settings = job.pivot, job.examples, job.settings
    ends, reports = _match_layers(job, models)
    chosen = Pivot.of(pivot, examples, settings, job.placement)
    fittings = [
        Fitting(model, own, job.block_ends(pivot), settings, job.placement, len(examples))
        for model, own in zip(models, ends, strict=True)
    ]
    passes = [
        observe(model, fitting.sites, examples, settings, chosen.words)
        for model, fitting in zip(models, fittings, strict=True)
    ]
    done = 0
    for observation in chosen.observe(examples):
        projected = chosen.project(observation)
        for model, fitting, batches in zip(models, fittings, passes, strict=True):
            fitting.update(observation if model is pivot else next(batches), projected)
        done += len(observation.origins)
        job.progress("collecting moments", done, len(examples))
    results = []
    for model, fitting, cka in zip(models, fittings, reports, strict=True):
        tensors, report = fitting.result(chosen.words, chosen.subspaces if model is pivot else None)
        results.append(((tensors, report | {"cka": cka}), fitting.layers))
    return results


def _match_layers(
    job: _Job, models: Sequence[Backbone]
) -> tuple[list[tuple[int, ...]], list[dict[str, Any]]]:
    """Choose the block ends of each model, and report its CKA with the pivot."""
    ends = [job.block_ends(model) for model in models]
    pivot_ends = job.block_ends(job.pivot)
    reports = []
    for number, model in enumerate(models):
        cka = layer_cka(model, job.pivot, job.examples)
        if job.placement.block_rule == "cka" and model is not job.pivot:
            ends[number] = tuple(own for own, _ in cka_monotone_matching(cka.matrix(), pivot_ends))
        reports.append(cka_report(cka, job.placement.num_blocks))
        job.progress("comparing layers", number + 1, len(models))
    return ends, reports


# --- refined on pseudo-tasks --------------------------------------------------------------------
def _align_together(
    job: _Job, models: Sequence[Backbone], refine: RefineSettings
) -> list[Alignment]:
    """Refine all models and the pivot together; the result depends on which models there are."""
    group = [job.pivot, *(model for model in models if model is not job.pivot)]
    members = sorted({model.fingerprint for model in group})
    identities = [job.identity(model, group=members) for model in group]
    stored = find_group(identities)
    if stored is None:
        tasks = PseudoTaskSet.of(job.pivot, job.examples, job.settings)
        ends = [job.block_ends(model) for model in group]
        traces = job.record(tasks, group, ends, refine)
        results = refine_group(traces, tasks, job.placement, job.settings.seed)
        stored = [
            _save(identity, result, layers, scaled=True)
            for identity, result, layers in zip(identities, results, ends, strict=True)
        ]
    return [stored[group.index(model)] for model in models]


def _join(job: _Job, models: Sequence[Backbone], refine: RefineSettings) -> list[Alignment]:
    """Refine each model that is not in the stored group to the pivot's pair of that group."""
    assert refine.join is not None
    members = load_group(Path(refine.join), job.identity(job.pivot))
    of_pivot = members[job.pivot.fingerprint]
    identities = [job.identity(model, joined=of_pivot.digest) for model in models]
    return [
        members.get(model.fingerprint)
        or find_alignment(identity)
        or _refine_joining(job, model, of_pivot, identity, refine)
        for model, identity in zip(models, identities, strict=True)
    ]


def _refine_joining(
    job: _Job, model: Backbone, of_pivot: Alignment, identity: Identity, refine: RefineSettings
) -> Alignment:
    tasks = PseudoTaskSet.of(job.pivot, job.examples, job.settings)
    ends = job.block_ends(model)
    traces = job.record(tasks, [model, job.pivot], [ends, of_pivot.layers], refine)
    pair: dict[str, Tensor] = dict(of_pivot.tensors)
    result = refine_joining_model(traces, tasks, pair, job.settings.seed)
    return _save(identity, result, ends, scaled=True)
