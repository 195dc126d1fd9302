"""Record what a base model does at its adapter sites on public examples.

The record holds inputs, outputs and the gradients of random probes for every token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.closed_form.probes import likelihood_probes, word_probes
from fedmosaic.alignment.correspondence.positions import Matching, match_origins
from fedmosaic.alignment.correspondence.vocabulary import vocabulary_size
from fedmosaic.alignment.hooks import SiteActivations, by_token, forward, record_sites
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.seeding import seed_for

LOGITS_LIMIT = 1 << 24
"""Most logits of one pass; a batch of a model with a large vocabulary is split into parts."""

SiteValues = Mapping[str, Tensor]
"""The quantities of one site by name (``x``, ``y``, ``g``; of the pivot ``z``, ``y``, ``u``)."""


@dataclass(frozen=True)
class Observation:
    """Hold quantities of the tokens of some examples, example after example.

    Attributes:
        sites: for each site inputs ``x`` [tokens, d_in], outputs ``y`` [tokens, d_out] and probe
            gradients ``g`` [tokens, probes, d_out]; or the pivot's projections of them
            (:meth:`~fedmosaic.alignment.closed_form.pivot.Pivot.project`).
        origins: for each example int64 [its tokens, 4], as
            :meth:`Backbone.token_origins` returns it.
        example_ids: id of each example.
    """

    sites: Mapping[str, SiteValues]
    origins: Sequence[Tensor]
    example_ids: Sequence[str]

    def matchings(self, other: Observation) -> list[Matching]:
        """Match the tokens of the two observations, example by example.

        Raises:
            DataError: as :func:`match_origins`.
        """
        return [
            match_origins(*tables)
            for tables in zip(self.origins, other.origins, self.example_ids, strict=True)
        ]


def fitted_count(count: int, settings: AlignmentSettings) -> int:
    """Return how many of ``count`` examples are used for fitting; the rest is held out."""
    return max(1, count - round(settings.held_out * count))


def batches(example_ids: Sequence[str], settings: AlignmentSettings) -> Iterator[list[int]]:
    """Yield the indices of the examples of each batch.

    All examples for fitting come first, then those held out for the report; no batch holds both.
    Which examples are held out is drawn by their ids and does not depend on their order.
    """
    drawn = sorted(
        range(len(example_ids)),
        key=lambda index: (seed_for(settings.seed, "held out", example_ids[index]), index),
    )
    fitted = fitted_count(len(example_ids), settings)
    for part in (sorted(drawn[:fitted]), sorted(drawn[fitted:])):
        for start in range(0, len(part), settings.batch_size):
            yield part[start : start + settings.batch_size]


def observe(
    backbone: Backbone,
    sites: Sequence[AdapterSite],
    examples: Sequence[Example],
    settings: AlignmentSettings,
    words: Sequence[str] = (),
    *,
    gradients: bool = True,
) -> Iterator[Observation]:
    """Pass over the examples once, in the order of :func:`batches`.

    Memory does not grow with the number of examples.

    Args:
        backbone: the model.
        sites: where it is observed.
        examples: public examples.
        settings: batch size, held-out share, number of probes and seed.
        words: answer words for word probes (:func:`answer_words`); empty for likelihood probes.
        gradients: False leaves ``g`` out and takes a fraction of the time.

    Raises:
        ModelError: a gradient is not finite.
    """
    for numbers in batches([example.id for example in examples], settings):
        part = [examples[number] for number in numbers]
        width = max(len(backbone.encode(example).input_ids) for example in part)
        size = max(1, LOGITS_LIMIT // (width * vocabulary_size(backbone)))
        yield _concatenate(
            [
                _observe_batch(
                    backbone, sites, part[start : start + size], settings, words, gradients
                )
                for start in range(0, len(part), size)
            ]
        )


def _observe_batch(
    backbone: Backbone,
    sites: Sequence[AdapterSite],
    examples: Sequence[Example],
    settings: AlignmentSettings,
    words: Sequence[str],
    gradients: bool,
) -> Observation:
    """Make one forward pass, and one backward pass for each probe."""
    origins = [backbone.token_origins(example) for example in examples]
    batch = backbone.collate([backbone.encode(example) for example in examples])
    with record_sites(backbone, sites) as recorded, torch.set_grad_enabled(gradients):
        logits = forward(backbone, batch, gradients=gradients)
    real = batch.attention_mask.bool()
    found = {}
    for key, each in recorded.items():
        x, y = (
            by_token(values.detach(), real, f"{backbone.name}: {key}")[real]
            for values in (each.x, each.y)
        )
        found[key] = {"x": _widen(x), "y": _widen(y)}
    if gradients:
        if words:
            values = word_probes(
                backbone, batch, logits, examples, words, settings.probes, settings.seed
            )
        else:
            values = likelihood_probes(
                batch, logits, origins, examples, settings.probes, settings.seed
            )
        for key, g in _probe_gradients(backbone, batch, sites, recorded, values).items():
            found[key]["g"] = g
    return Observation(found, origins, [example.id for example in examples])


def _probe_gradients(
    backbone: Backbone,
    batch: Batch,
    sites: Sequence[AdapterSite],
    recorded: Mapping[str, SiteActivations],
    values: Tensor,
) -> dict[str, Tensor]:
    """Differentiate the probes ``values`` [probes] by the outputs of all sites.

    Returns:
        for each site [tokens, probes, d_out].
    """
    real = batch.attention_mask.bool()
    outputs = [recorded[site.key].y for site in sites]
    each = [torch.autograd.grad(value, outputs, retain_graph=True) for value in values]
    found = {}
    for number, site in enumerate(sites):
        name = f"{backbone.name}: {site.key}"
        g = torch.stack([by_token(gradient[number], real, name)[real] for gradient in each], 1)
        if not torch.isfinite(g).all():
            raise ModelError(
                f"{backbone.name}: the output gradients at {site.key} are not finite; "
                "use dtype float32"
            )
        found[site.key] = _widen(g)
    return found


def _concatenate(parts: Sequence[Observation]) -> Observation:
    if len(parts) == 1:
        return parts[0]
    sites = {
        key: {name: torch.cat([part.sites[key][name] for part in parts]) for name in values}
        for key, values in parts[0].sites.items()
    }
    return Observation(
        sites,
        [table for part in parts for table in part.origins],
        [name for part in parts for name in part.example_ids],
    )


def _widen(values: Tensor) -> Tensor:
    """Convert to float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
