"""Align any number of models to one pivot: one pass of every model over the public data, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fedmosaic.adapters.blocks import block_ends
from fedmosaic.alignment.cka import layer_cka
from fedmosaic.alignment.depth import cka_monotone_matching, cka_report
from fedmosaic.alignment.fit import Fitting
from fedmosaic.alignment.observe import Subspaces, observe
from fedmosaic.alignment.pivot import pivot_subspaces, random_subspaces
from fedmosaic.alignment.probes import answer_words, choose_probe
from fedmosaic.alignment.sites import sites_of
from fedmosaic.alignment.store import Alignment, Identity, find_alignment, save_alignment
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

    Models do not see one another: adding one later changes none that is there. What was stored before under the same identity
    (weights, public data, settings) is taken from the package or the cache; what is new goes into the cache.

    Args:
        models: in any number; the pivot itself may be among them and keeps its own pair.

    Returns:
        one alignment for each model, in order.

    Raises:
        DataError: no public example, no text in common, or too few tokens for the rank. ModelError: fewer layers than blocks.
        CheckpointError: a stored alignment is damaged.
    """
    if not examples:
        raise DataError("alignment needs public examples; name some as data.public, or set alignment.method=none")
    told = settings.model_dump(mode="json")
    identities = [Identity.of(model, pivot, examples, told) for model in models]
    found = [find_alignment(identity) for identity in identities]
    missing = [number for number, known in enumerate(found) if known is None]
    if missing:
        fresh = _align([models[n] for n in missing], pivot, examples, settings, progress or (lambda *_: None))
        for number, (tensors, report) in zip(missing, fresh, strict=True):
            made = found[number] = Alignment(tensors, identities[number], report)
            save_alignment(made)
    return [known for known in found if known is not None]


def _align(
    models: Sequence[Backbone],
    pivot: Backbone,
    examples: Sequence[Example],
    settings: AlignmentSettings,
    progress: Progress,
) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
    ends = block_ends(pivot.num_layers, settings.blocks)
    pivot_sites = sites_of(ends, settings.modules)
    ckas = []
    for number, model in enumerate(models):
        ckas.append(layer_cka(model, pivot, examples))
        progress("comparing layers", number + 1, len(models))
    layers = [_layers(model, cka.matrix(), ends, settings) for model, cka in zip(models, ckas, strict=True)]
    sites = [sites_of(own, settings.modules) for own in layers]
    words: list[str] = []
    if choose_probe(examples, settings.probe) == "words":
        words = answer_words(examples, [*models, pivot])
    subspaces = pivot_subspaces(pivot, pivot_sites, examples, settings, words)
    fittings = [
        Fitting(
            own,
            pivot_sites,
            random_subspaces(model, own, settings.rank, settings.seed),
            subspaces,
            settings,
            len(examples),
        )
        for model, own in zip(models, sites, strict=True)
    ]
    passes = [observe(model, own, examples, settings, words) for model, own in zip(models, sites, strict=True)]
    done = 0
    for shown in observe(pivot, pivot_sites, examples, settings, words):
        seen = shown.through(subspaces)
        for model, fitting, batches in zip(models, fittings, passes, strict=True):
            fitting.update(shown if model is pivot else next(batches), seen)
        done += len(shown.origins)
        progress("collecting moments", done, len(examples))
    results = []
    for model, fitting, own, cka in zip(models, fittings, sites, ckas, strict=True):
        solved: Subspaces = subspaces if model is pivot else fitting.solve()
        report = {
            "sites": fitting.report(solved),
            "layers": [site.layer for site in own[:: len(settings.modules)]],
            "cka": cka_report(cka, settings.blocks),
            "words": len(words),
        }
        results.append(({key: value.to(torch.float32) for key, value in solved.items()}, report))
    return results


def _layers(model: Backbone, cka: Tensor, ends: Sequence[int], settings: AlignmentSettings) -> Sequence[int]:
    """The block ends of a model, by depth or by CKA with the pivot's."""
    if settings.layers == "depth":
        return block_ends(model.num_layers, settings.blocks)
    return [own for own, _ in cka_monotone_matching(cka, ends)]
