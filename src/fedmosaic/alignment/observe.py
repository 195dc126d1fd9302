"""What a bare model does at its sites on public examples: inputs, outputs and the gradients of random probes, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.alignment.exchange import Published
from fedmosaic.alignment.positions import Matching, match_origins
from fedmosaic.alignment.probes import likelihood_probes, word_probes
from fedmosaic.alignment.sites import Site, forward, watching
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example, fingerprint
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone

Kinds = Mapping[str, Tensor]
Subspaces = Mapping[str, Tensor]
"""``{site}.A`` [r, d_in] and ``{site}.B`` [d_out, r]."""


@dataclass(frozen=True)
class Observation:
    """Numbers about the tokens of some examples, example after example.

    Attributes:
        sites: for each site ``x`` [tokens, d_in], ``y`` [tokens, d_out] and ``g`` [tokens, probes, d_out]; or, seen through a
            pivot's A and B, ``z`` = A x [tokens, r], ``y`` and ``u`` = Bᵀ g [tokens, probes, r].
        origins: for each example int64 [its tokens, 4] (:meth:`Backbone.origins`). names: the examples' ids.
    """

    sites: Mapping[str, Kinds]
    origins: Sequence[Tensor]
    names: Sequence[str]

    def through(self, subspaces: Subspaces) -> Observation:
        """As a pivot shows itself: its inputs and gradients seen through its A and B."""
        seen = {
            key: {
                "z": kinds["x"] @ subspaces[f"{key}.A"].t().to(kinds["x"]),
                "y": kinds["y"],
                "u": kinds["g"] @ subspaces[f"{key}.B"].to(kinds["g"]),
            }
            for key, kinds in self.sites.items()
        }
        return Observation(seen, self.origins, self.names)

    def matchings(self, other: Observation) -> list[Matching]:
        """Which tokens answer to which, example by example. Raises DataError as :func:`match_origins`."""
        return [match_origins(*tables) for tables in zip(self.origins, other.origins, self.names, strict=True)]


def fitted_count(count: int, settings: AlignmentSettings) -> int:
    """How many of ``count`` examples, the first ones, are fitted to; the others are held out for the report."""
    return max(1, count - round(settings.held_out * count))


def spans(count: int, settings: AlignmentSettings) -> Iterator[range]:
    """The examples of each batch; none holds both fitted and held-out ones."""
    fitted = fitted_count(count, settings)
    for first, stop in ((0, fitted), (fitted, count)):
        for start in range(first, stop, settings.batch_size):
            yield range(start, min(start + settings.batch_size, stop))


def observe(
    backbone: Backbone,
    sites: Sequence[Site],
    examples: Sequence[Example],
    settings: AlignmentSettings,
    words: Sequence[str] = (),
) -> Iterator[Observation]:
    """One pass over the examples, batch by batch; memory does not grow with their number.

    Args:
        words: for probes of answer words (:func:`answer_words`); empty: probes of the answers' likelihood.

    Raises:
        ModelError: a gradient is not finite.
    """
    for numbers in spans(len(examples), settings):
        part = examples[numbers.start : numbers.stop]
        origins = [backbone.origins(example) for example in part]
        batch = backbone.collate([backbone.encode(example) for example in part])
        with watching(backbone, sites) as seen:
            logits = forward(backbone, batch, gradients=True)
        if words:
            values = word_probes(backbone, batch, logits, part, words, settings.probes, settings.seed)
        else:
            values = likelihood_probes(batch, logits, origins, part, settings.probes, settings.seed)
        outputs = [seen[site.key].y for site in sites]
        gradients = [torch.autograd.grad(value, outputs, retain_graph=True) for value in values]
        real = batch.attention_mask.bool()
        found: dict[str, Kinds] = {}
        for number, site in enumerate(sites):
            g = torch.stack([each[number][real] for each in gradients], 1)
            if not torch.isfinite(g).all():
                raise ModelError(
                    f"{backbone.name}: the output gradients at {site.key} are not finite; use dtype float32"
                )
            found[site.key] = {
                "x": seen[site.key].x.detach()[real].float(),
                "y": outputs[number].detach()[real].float(),
                "g": g.float(),
            }
        yield Observation(found, origins, [example.id for example in part])


def publish(
    backbone: Backbone,
    sites: Sequence[Site],
    examples: Sequence[Example],
    settings: AlignmentSettings,
    subspaces: Subspaces,
    words: Sequence[str] = (),
) -> Published:
    """What a pivot tells so that others can align themselves at home (:mod:`fedmosaic.alignment.exchange`)."""
    shown = [each.through(subspaces) for each in observe(backbone, sites, examples, settings, words)]
    together = {
        site.key: {
            kind: torch.cat([each.sites[site.key][kind].flatten(1) for each in shown]) for kind in ("z", "y", "u")
        }
        for site in sites
    }
    origins = [table for each in shown for table in each.origins]
    about = {
        "pivot": backbone.name,
        "layers": [site.layer for site in sites],
        "words": list(words),
        "settings": settings.model_dump(mode="json"),
    }
    return Published(together, origins, [example.id for example in examples], fingerprint(examples), about)


def published_batches(published: Published, settings: AlignmentSettings) -> Iterator[Observation]:
    """What a pivot published, in the batches in which :func:`observe` sees the same examples."""
    for numbers in spans(len(published), settings):
        rows = slice(published.rows(numbers[0]).start, published.rows(numbers[-1]).stop)
        sites: dict[str, Kinds] = {}
        for key, kinds in published.sites.items():
            u = kinds["u"][rows].float()
            sites[key] = {
                "z": kinds["z"][rows].float(),
                "y": kinds["y"][rows].float(),
                "u": u.reshape(len(u), settings.probes, -1),
            }
        yield Observation(sites, [published.origins[n] for n in numbers], [published.example_ids[n] for n in numbers])
