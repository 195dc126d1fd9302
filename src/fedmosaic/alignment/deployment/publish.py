"""Alignment across machines: the pivot publishes once what it does on the public examples, and everyone aligns at home.

    payload = pack_published(publish(pivot, public, settings))                  # where the pivot is
    aligned = align_to_published(model, unpack_published(payload), public)      # anywhere else, at any time

Both sides need the same public examples; neither sees the other's weights, tokenizer or private data. The result is that of
:func:`fedmosaic.alignment.align` with both models in one place, but for the comparison of all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import ValidationError
from torch import Tensor

from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment.align_models import Progress
from fedmosaic.alignment.closed_form.fit import Fitting
from fedmosaic.alignment.closed_form.observe import Kinds, Observation, batches, observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.correspondence.depth import depth_ends
from fedmosaic.alignment.deployment.published import Published
from fedmosaic.alignment.store import (
    Alignment,
    Identity,
    counted,
    find_alignment,
    plain_name,
    save_alignment,
)
from fedmosaic.config import AlignmentSettings, Settings
from fedmosaic.data.example import Example, fingerprint
from fedmosaic.errors import ConfigError, UpdateError
from fedmosaic.models.backbone import Backbone


class About(Settings):
    """What a pivot tells of itself: name, fingerprint of the weights, block ends, answer words of the probes, and the settings."""

    pivot: str
    weights: str
    layers: tuple[int, ...]
    words: tuple[str, ...]
    settings: AlignmentSettings


def publish(pivot: Backbone, examples: Sequence[Example], settings: AlignmentSettings) -> Published:
    """What a pivot tells so that others can align themselves at home: what :meth:`Pivot.show` shows of every token.

    The pivot's own pair is that of ``align([pivot], pivot, examples, settings)``.

    Raises:
        ConfigError: ``layers: cka``, which compares layers that are not published. DataError, ModelError: as ``align``.
    """
    if settings.layers == "cka":
        raise ConfigError(
            "alignment.layers=cka compares all layers with the pivot's own: publish with layers=depth"
        )
    known = Pivot.of(pivot, examples, settings)
    names = [example.id for example in examples]
    origins: list[Tensor] = [torch.empty(0)] * len(examples)
    rows: dict[str, dict[str, list[Tensor]]] = {}
    for numbers, seen in zip(batches(names, settings), known.observe(examples), strict=True):
        shown = known.show(seen)
        counts = [len(table) for table in shown.origins]
        for number, table in zip(numbers, shown.origins, strict=True):
            origins[number] = table
        for key, kinds in shown.sites.items():
            for kind, values in kinds.items():
                kept = rows.setdefault(key, {}).setdefault(kind, list(origins))
                for number, part in zip(
                    numbers, values.flatten(1).cpu().split(counts), strict=True
                ):
                    kept[number] = part
    together = {
        key: {kind: torch.cat(kept) for kind, kept in kinds.items()} for key, kinds in rows.items()
    }
    layers = tuple(site.layer for site in known.sites[:: len(settings.modules)])
    about = About(
        pivot=plain_name(pivot.name),
        weights=pivot.fingerprint,
        layers=layers,
        words=tuple(known.words),
        settings=settings,
    )
    return Published(together, origins, names, fingerprint(examples), about.model_dump(mode="json"))


def align_to_published(
    model: Backbone,
    published: Published,
    examples: Sequence[Example],
    settings: AlignmentSettings | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """A and B of a model that mean what those of the pivot mean that published.

    Args:
        examples: the same public examples, in the same order.
        settings: what was agreed on; None takes the pivot's.

    Raises:
        DataError: other examples, no text in common, or too few tokens for the rank. ConfigError: the pivot's settings are not
            those agreed on. UpdateError: what was published does not fit its own settings. ModelError: fewer layers than blocks.
    """
    published.check_examples(examples)
    about = _about(published)
    chosen = about.settings
    if settings is not None and settings != chosen:
        mine, theirs = settings.model_dump(), chosen.model_dump()
        changed = [
            f"{name} is {theirs[name]!r}, here {mine[name]!r}"
            for name in mine
            if mine[name] != theirs[name]
        ]
        raise ConfigError(
            f"{about.pivot} published with other alignment settings: {'; '.join(changed)}"
        )
    names = plain_name(model.name), about.pivot
    identity = Identity(*names, model.fingerprint, about.weights, published.public, counted(chosen))
    known = find_alignment(identity)
    if known is not None:
        return known
    fitting = Fitting(
        model, depth_ends(model.num_layers, chosen), about.layers, chosen, len(examples)
    )
    passes = observe(model, fitting.sites, examples, chosen, about.words)
    for own, shown in zip(passes, published_batches(published, chosen), strict=True):
        fitting.update(own, shown)
        if progress is not None:
            progress("collecting moments", fitting.seen, len(examples))
    tensors, report = fitting.result(about.words)
    made = Alignment(tensors, identity, report)
    save_alignment(made)
    return made


def published_batches(published: Published, settings: AlignmentSettings) -> Iterator[Observation]:
    """What a pivot published, in the batches in which :func:`observe` sees the same examples."""
    for numbers in batches(published.example_ids, settings):
        rows = torch.cat(
            [torch.arange(len(published.origins[n])) + published.rows(n).start for n in numbers]
        )
        sites: dict[str, Kinds] = {}
        for key, kinds in published.sites.items():
            u = kinds["u"][rows]
            sites[key] = {
                "z": kinds["z"][rows],
                "y": kinds["y"][rows],
                "u": u.unflatten(1, (settings.probes, -1)),
            }
        yield Observation(
            sites,
            [published.origins[n] for n in numbers],
            [published.example_ids[n] for n in numbers],
        )


def _about(published: Published) -> About:
    """What the pivot says of itself, once it agrees with the numbers."""
    try:
        about = About.model_validate(published.about)
    except ValidationError as error:
        fields = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors()}))
        raise UpdateError(
            f"what the pivot published does not say what it is: wrong or missing {fields}"
        ) from error
    settings = about.settings
    if len(about.layers) != settings.blocks:
        raise UpdateError(
            f"the pivot published {len(about.layers)} layers for {settings.blocks} blocks"
        )
    widths = {"z": settings.rank, "u": settings.rank * settings.probes}
    if settings.method not in ("outputs", "release"):
        widths["y"] = settings.rank
    schema = {site.key: widths for site in sites_of(about.layers, settings.modules)}
    for key in {**schema, **published.schema}:
        found = published.schema.get(key, {})
        if (
            key not in schema
            or {kind: found.get(kind) for kind in widths} != widths
            or found.get("y", 0) < settings.rank
        ):
            raise UpdateError(
                f"what the pivot published at {key!r} is {dict(found)}, not what its settings say"
            )
    return about
