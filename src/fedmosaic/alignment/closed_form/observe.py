"""What a bare model does at its sites on public examples: inputs, outputs and the gradients of random probes, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.closed_form.probes import likelihood_probes, word_probes
from fedmosaic.alignment.correspondence.positions import Matching, match_origins
from fedmosaic.alignment.correspondence.vocabulary import vocabulary_size
from fedmosaic.alignment.hooks import forward, watching
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import seed_for

LOGITS_LIMIT = 1 << 24
"""Most logits of one pass; batches of models with large vocabularies go through in parts."""

Kinds = Mapping[str, Tensor]
Subspaces = Mapping[str, Tensor]
"""``{site}.A`` [r, d_in] and ``{site}.B`` [d_out, r]."""


@dataclass(frozen=True)
class Observation:
    """Numbers about the tokens of some examples, example after example.

    Attributes:
        sites: for each site ``x`` [tokens, d_in], ``y`` [tokens, d_out] and ``g`` [tokens, probes, d_out]; or what a pivot shows of
            them (:meth:`~fedmosaic.alignment.closed_form.pivot.Pivot.show`).
        origins: for each example int64 [its tokens, 4] (:meth:`Backbone.token_origins`). names: the examples' ids.
    """

    sites: Mapping[str, Kinds]
    origins: Sequence[Tensor]
    names: Sequence[str]

    def matchings(self, other: Observation) -> list[Matching]:
        """Which tokens answer to which, example by example. Raises DataError as :func:`match_origins`."""
        return [
            match_origins(*tables)
            for tables in zip(self.origins, other.origins, self.names, strict=True)
        ]


def fitted_count(count: int, settings: AlignmentSettings) -> int:
    """How many of ``count`` examples are fitted to; the others are held out for the report."""
    return max(1, count - round(settings.held_out * count))


def batches(names: Sequence[str], settings: AlignmentSettings) -> Iterator[list[int]]:
    """Which examples each batch holds: first all that are fitted to, then those held out, none of both in one batch.

    Which ones are held out is drawn by the examples' ids, so that it does not depend on the order they come in.
    """
    drawn = sorted(
        range(len(names)),
        key=lambda index: (seed_for(settings.seed, "held out", names[index]), index),
    )
    fitted = fitted_count(len(names), settings)
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
    """One pass over the examples in the order of :func:`batches`; memory does not grow with their number.

    Args:
        words: for probes of answer words (:func:`answer_words`); empty: probes of the answers' likelihood.
        gradients: False leaves ``g`` out and takes a fraction of the time.

    Raises:
        ModelError: a gradient is not finite.
    """
    for numbers in batches([example.id for example in examples], settings):
        part = [examples[number] for number in numbers]
        width = max(len(backbone.encode(example).input_ids) for example in part)
        size = max(1, LOGITS_LIMIT // (width * vocabulary_size(backbone)))
        yield _joined(
            [
                _look(backbone, sites, part[start : start + size], settings, words, gradients)
                for start in range(0, len(part), size)
            ]
        )


def _look(
    backbone: Backbone,
    sites: Sequence[AdapterSite],
    examples: Sequence[Example],
    settings: AlignmentSettings,
    words: Sequence[str],
    gradients: bool,
) -> Observation:
    """One forward pass, and one backward pass for each probe."""
    origins = [backbone.token_origins(example) for example in examples]
    batch = backbone.collate([backbone.encode(example) for example in examples])
    with watching(backbone, sites) as seen, torch.set_grad_enabled(gradients):
        logits = forward(backbone, batch, gradients=gradients)
    real = batch.attention_mask.bool()
    found = {
        key: {"x": _wide(each.x.detach()[real]), "y": _wide(each.y.detach()[real])}
        for key, each in seen.items()
    }
    if gradients:
        if words:
            values = word_probes(
                backbone, batch, logits, examples, words, settings.probes, settings.seed
            )
        else:
            values = likelihood_probes(
                batch, logits, origins, examples, settings.probes, settings.seed
            )
        outputs = [seen[site.key].y for site in sites]
        each = [torch.autograd.grad(value, outputs, retain_graph=True) for value in values]
        for number, site in enumerate(sites):
            g = torch.stack([gradient[number][real] for gradient in each], 1)
            if not torch.isfinite(g).all():
                raise ModelError(
                    f"{backbone.name}: the output gradients at {site.key} are not finite; use dtype float32"
                )
            found[site.key]["g"] = _wide(g)
    return Observation(found, origins, [example.id for example in examples])


def _joined(parts: Sequence[Observation]) -> Observation:
    if len(parts) == 1:
        return parts[0]
    sites = {
        key: {kind: torch.cat([part.sites[key][kind] for part in parts]) for kind in kinds}
        for key, kinds in parts[0].sites.items()
    }
    return Observation(
        sites,
        [table for part in parts for table in part.origins],
        [name for part in parts for name in part.names],
    )


def _wide(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
