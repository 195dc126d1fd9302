"""Align any number of models to one pivot: one pass of every model over the public data, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fedmosaic.alignment.closed_form.fit import Fitting
from fedmosaic.alignment.closed_form.observe import observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.correspondence.cka import layer_cka
from fedmosaic.alignment.correspondence.depth import cka_monotone_matching, cka_report, depth_ends
from fedmosaic.alignment.refinement import Looked, Questions, refine_group, refine_joiner
from fedmosaic.alignment.store import (
    Alignment,
    Identity,
    counted,
    find_alignment,
    find_group,
    known_group,
    save_alignment,
)
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it is done, and of how much."""


def align(
    models: Sequence[Backbone],
    pivot: Backbone,
    examples: Sequence[Example],
    settings: AlignmentSettings,
    progress: Progress | None = None,
) -> list[Alignment]:
    """A and B of some models that mean what the pivot's mean, from public examples alone.

    Models do not see one another: adding one later changes none that is there. With ``settings.refine`` they do, and who comes
    later joins (``settings.refine.join``). What was stored before under the same identity (weights, public data, settings, and the
    group with refinement) is taken from the package or the cache; what is new goes into the cache.

    Args:
        models: in any number; the pivot itself may be among them and keeps its own pair.

    Returns:
        one alignment for each model, in order.

    Raises:
        DataError: no public example, no text in common, or too few tokens for the rank. ModelError: fewer layers than blocks.
        CheckpointError: a stored alignment is damaged; or ``settings.refine.join`` holds no refined pair of this pivot.
    """
    if not examples:
        raise DataError(
            "alignment needs public examples; name some as data.public, or set alignment.method=none"
        )
    tell = progress or (lambda *_: None)
    told = counted(settings)
    if settings.refine is not None:
        return _refined(models, pivot, examples, settings, told, tell)
    identities = [Identity.of(model, pivot, examples, told) for model in models]
    stored = [find_alignment(identity) for identity in identities]
    missing = [number for number, one in enumerate(stored) if one is None]
    if missing:
        fresh = _align([models[n] for n in missing], pivot, examples, settings, tell)
        for number, (tensors, report) in zip(missing, fresh, strict=True):
            stored[number] = _stored(identities[number], tensors, report)
    return [one for one in stored if one is not None]


def _stored(identity: Identity, tensors: dict[str, Tensor], report: dict[str, Any]) -> Alignment:
    made = Alignment(tensors, identity, report)
    save_alignment(made)
    return made


def _refined(
    models: Sequence[Backbone],
    pivot: Backbone,
    examples: Sequence[Example],
    settings: AlignmentSettings,
    told: dict[str, Any],
    tell: Progress,
) -> list[Alignment]:
    """Everybody is refined for everybody, so a result depends on who was there; who joins later depends on the pivot's pair."""
    assert settings.refine is not None
    if settings.refine.join is not None:
        known = known_group(Path(settings.refine.join), Identity.of(pivot, pivot, examples, told))
        founder = known[pivot.fingerprint]
        joining = [
            Identity.of(model, pivot, examples, {**told, "joined": founder.digest})
            for model in models
        ]
        return [
            known.get(model.fingerprint)
            or find_alignment(identity)
            or _joined(model, pivot, founder, identity, examples, settings, tell)
            for model, identity in zip(models, joining, strict=True)
        ]
    group = [pivot, *(model for model in models if model is not pivot)]
    members = sorted({model.fingerprint for model in group})
    identities = [
        Identity.of(model, pivot, examples, {**told, "group": members}) for model in group
    ]
    there = find_group(identities)
    if there is None:
        questions = Questions.of(pivot, examples, settings)
        ends = [depth_ends(model.num_layers, settings) for model in group]
        looked = Looked.at(questions, group, ends, settings, tell)
        pairs = refine_group(looked, questions, settings, tell)
        there = [_stored(identity, *pair) for identity, pair in zip(identities, pairs, strict=True)]
    return [there[group.index(model)] for model in models]


def _joined(
    model: Backbone,
    pivot: Backbone,
    known: Alignment,
    identity: Identity,
    examples: Sequence[Example],
    settings: AlignmentSettings,
    tell: Progress,
) -> Alignment:
    questions = Questions.of(pivot, examples, settings)
    ends = [depth_ends(model.num_layers, settings), known.report["layers"]]
    looked = Looked.at(questions, [model, pivot], ends, settings, tell)
    return _stored(identity, *refine_joiner(looked, known.tensors, questions, settings, tell))


def _align(
    models: Sequence[Backbone],
    pivot: Backbone,
    examples: Sequence[Example],
    settings: AlignmentSettings,
    progress: Progress,
) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
    ends = [depth_ends(model.num_layers, settings) for model in models]
    pivot_ends = depth_ends(pivot.num_layers, settings)
    ckas = []
    for number, model in enumerate(models):
        ckas.append(layer_cka(model, pivot, examples))
        if settings.layers == "cka" and model is not pivot:
            ends[number] = tuple(
                own for own, _ in cka_monotone_matching(ckas[number].matrix(), pivot_ends)
            )
        progress("comparing layers", number + 1, len(models))
    known = Pivot.of(pivot, examples, settings)
    fittings = [
        Fitting(model, own, pivot_ends, settings, len(examples))
        for model, own in zip(models, ends, strict=True)
    ]
    passes = [
        observe(model, fitting.sites, examples, settings, known.words)
        for model, fitting in zip(models, fittings, strict=True)
    ]
    done = 0
    for seen in known.observe(examples):
        shown = known.show(seen)
        for model, fitting, batches in zip(models, fittings, passes, strict=True):
            fitting.update(seen if model is pivot else next(batches), shown)
        done += len(seen.origins)
        progress("collecting moments", done, len(examples))
    results = []
    for model, fitting, cka in zip(models, fittings, ckas, strict=True):
        tensors, report = fitting.result(known.words, known.subspaces if model is pivot else None)
        results.append((tensors, report | {"cka": cka_report(cka, settings.blocks)}))
    return results
