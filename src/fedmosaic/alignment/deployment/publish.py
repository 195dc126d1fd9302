"""Align models on different machines: the pivot publishes once, every other model aligns locally.

    payload = pack_published(publish(pivot, public, settings, placement))   # where the pivot is
    aligned = align_to_published(model, unpack_published(payload), public)  # anywhere, at any time

Both sides need the same public examples. Neither needs the other's weights, tokenizer or private
data. The result is that of :func:`fedmosaic.alignment.align` with both models on one machine,
except for the comparison of all layers, which is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch
from pydantic import ValidationError
from torch import Tensor

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment.closed_form.fit import Fitting
from fedmosaic.alignment.closed_form.observe import Observation, SiteValues, batches, observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.common import Progress
from fedmosaic.alignment.deployment.published import PublishedPivot
from fedmosaic.alignment.identity import Identity, identity_settings, plain_name
from fedmosaic.alignment.store import Alignment, find_alignment, save_alignment
from fedmosaic.config import AlignmentSettings, Settings
from fedmosaic.data.example import Example, fingerprint
from fedmosaic.errors import ConfigError, UpdateError
from fedmosaic.models.backbone import Backbone


class PivotDescription(Settings):
    """Describe the pivot behind published numbers."""

    pivot: str
    """Name of the pivot."""

    weights: str
    """Fingerprint of the pivot's weights."""

    layers: tuple[int, ...]
    """Block ends of the pivot (0-based)."""

    words: tuple[str, ...]
    """Answer words of the probes; empty for likelihood probes."""

    settings: AlignmentSettings
    """Settings of the alignment to the pivot."""

    placement: Placement
    """Rank, blocks and modules of the shared adapters."""


def publish(
    pivot: Backbone,
    examples: Sequence[Example],
    settings: AlignmentSettings,
    placement: Placement,
) -> PublishedPivot:
    """Compute what a pivot publishes: :meth:`Pivot.project` of every token of the examples.

    The pivot's own pair is that of ``align([pivot], pivot, examples, settings, placement)``.

    Raises:
        ConfigError: ``block_rule: cka``, which compares layers that are not published.
        DataError: as :func:`fedmosaic.alignment.align`.
        ModelError: as :func:`fedmosaic.alignment.align`.
    """
    if placement.block_rule == "cka":
        raise ConfigError(
            "block_rule=cka compares all layers with the pivot's own, which are not published: "
            "publish with block_rule=depth"
        )
    chosen = Pivot.of(pivot, examples, settings, placement)
    ids = [example.id for example in examples]
    origins: list[Tensor] = [torch.empty(0)] * len(examples)
    rows: dict[str, dict[str, list[Tensor]]] = {}
    for numbers, observation in zip(batches(ids, settings), chosen.observe(examples), strict=True):
        projected = chosen.project(observation)
        counts = [len(table) for table in projected.origins]
        for number, table in zip(numbers, projected.origins, strict=True):
            origins[number] = table
        for key, values in projected.sites.items():
            for name, value in values.items():
                per_example = rows.setdefault(key, {}).setdefault(name, list(origins))
                parts = value.flatten(1).cpu().split(counts)
                for number, part in zip(numbers, parts, strict=True):
                    per_example[number] = part
    sites = {
        key: {name: torch.cat(parts) for name, parts in values.items()}
        for key, values in rows.items()
    }
    about = PivotDescription(
        pivot=plain_name(pivot.name),
        weights=pivot.fingerprint,
        layers=placement.block_ends(pivot.num_layers),
        words=tuple(chosen.words),
        settings=settings.model_copy(update={"pivot": plain_name(pivot.name)}),
        placement=placement,
    )
    return PublishedPivot(sites, origins, ids, fingerprint(examples), about.model_dump(mode="json"))


def align_to_published(
    model: Backbone,
    published: PublishedPivot,
    examples: Sequence[Example],
    settings: AlignmentSettings | None = None,
    placement: Placement | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """Compute A and B of a model that have the meaning of the pivot that published.

    Args:
        model: the model to align.
        published: what the pivot published.
        examples: the same public examples, in the same order.
        settings: settings that were agreed on; the pivot's by default.
        placement: placement that was agreed on; the pivot's by default.
        progress: called after each batch.

    Raises:
        DataError: other examples, no common text, or too few tokens for the rank.
        ConfigError: the pivot's settings or placement are not those agreed on.
        UpdateError: the published numbers do not fit their own settings.
        ModelError: the model has fewer layers than blocks.
    """
    published.check_examples(examples)
    about = _description(published)
    _check_agreement(about, settings or about.settings, placement or about.placement)
    identity = Identity(
        plain_name(model.name),
        about.pivot,
        model.fingerprint,
        about.weights,
        published.public,
        identity_settings(about.settings, about.placement),
    )
    stored = find_alignment(identity)
    if stored is not None:
        return stored
    ends = about.placement.block_ends(model.num_layers)
    fitting = Fitting(model, ends, about.layers, about.settings, about.placement, len(examples))
    passes = observe(model, fitting.sites, examples, about.settings, about.words)
    for own, projected in zip(passes, published_batches(published, about.settings), strict=True):
        fitting.update(own, projected)
        if progress is not None:
            progress("collecting moments", fitting.done, len(examples))
    tensors, report = fitting.result(about.words)
    made = Alignment(tensors, identity, fitting.layers, report=report)
    save_alignment(made)
    return made


def published_batches(
    published: PublishedPivot, settings: AlignmentSettings
) -> Iterator[Observation]:
    """Yield a pivot's published projections in the batches that :func:`observe` makes of them."""
    for numbers in batches(published.example_ids, settings):
        rows = torch.cat(
            [torch.arange(len(published.origins[n])) + published.rows(n).start for n in numbers]
        )
        sites: dict[str, SiteValues] = {}
        for key, values in published.sites.items():
            u = values["u"][rows]
            sites[key] = {
                "z": values["z"][rows],
                "y": values["y"][rows],
                "u": u.unflatten(1, (settings.probes, -1)),
            }
        yield Observation(
            sites,
            [published.origins[n] for n in numbers],
            [published.example_ids[n] for n in numbers],
        )


def require_agreement(
    published: PublishedPivot, weights: str, settings: AlignmentSettings, placement: Placement
) -> None:
    """Require that published numbers are those of a pivot, made as it was agreed on.

    Args:
        published: the numbers.
        weights: fingerprint of the pivot.
        settings: settings that were agreed on.
        placement: placement that was agreed on.

    Raises:
        UpdateError: they are another model's, or do not fit their own settings.
        ConfigError: other settings or another placement.
    """
    about = _description(published)
    if about.weights != weights:
        raise UpdateError(
            f"the published numbers are those of a model with fingerprint {about.weights}, but the "
            f"pivot's is {weights}"
        )
    _check_agreement(about, settings, placement)


def _check_agreement(
    about: PivotDescription, settings: AlignmentSettings, placement: Placement
) -> None:
    """Raise ConfigError unless settings and placement are those of the pivot.

    The pivot's name does not count: it may differ between machines.
    """
    own = {**settings.model_dump(), **asdict(placement)}
    published = {**about.settings.model_dump(), **asdict(about.placement)}
    changed = [
        f"{name} is {published[name]!r}, here {own[name]!r}"
        for name in own
        if name != "pivot" and own[name] != published[name]
    ]
    if changed:
        raise ConfigError(
            f"{about.pivot} published with other alignment settings: {'; '.join(changed)}"
        )


def _description(published: PublishedPivot) -> PivotDescription:
    """Read the pivot's description and check that the published numbers fit it.

    Raises:
        UpdateError: the description is incomplete, or the numbers do not fit it.
    """
    try:
        about = PivotDescription.model_validate(published.about)
    except ValidationError as error:
        fields = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors()}))
        raise UpdateError(
            f"the description of the published pivot has wrong or missing fields: {fields}"
        ) from error
    settings, placement = about.settings, about.placement
    if len(about.layers) != placement.num_blocks:
        raise UpdateError(
            f"the pivot published {len(about.layers)} layers for {placement.num_blocks} blocks"
        )
    widths = {"z": placement.r, "u": placement.r * settings.probes}
    if settings.method not in ("outputs", "release"):
        widths["y"] = placement.r
    schema = {site.key: widths for site in placement.sites(about.layers)}
    for key in {**schema, **published.schema}:
        found = published.schema.get(key, {})
        if (
            key not in schema
            or {name: found.get(name) for name in widths} != widths
            or found.get("y", 0) < placement.r
        ):
            raise UpdateError(
                f"the pivot published {dict(found)} at {key!r}, which does not fit its settings"
            )
    return about
