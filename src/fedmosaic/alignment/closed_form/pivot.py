"""The pivot's own A and B: chosen once, from the pivot alone, and kept; everybody else is fitted to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite, sites_of
from fedmosaic.adapters.subspace import random_pair, svd_pair
from fedmosaic.alignment.closed_form.observe import Observation, Subspaces, observe
from fedmosaic.alignment.closed_form.probes import answer_words, choose_probe
from fedmosaic.alignment.closed_form.solve import nearest_orthonormal
from fedmosaic.alignment.correspondence.depth import depth_ends
from fedmosaic.alignment.hooks import linear_at
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone


@dataclass(frozen=True)
class Pivot:
    """All that is fixed before anyone is aligned to it, from the pivot and the public examples alone.

    Attributes:
        sites: its block ends by relative depth. words: for probes of answer words; empty for probes of likelihood.
        subspaces: its A and B, orthonormal, float64.
    """

    backbone: Backbone
    sites: Sequence[AdapterSite]
    words: Sequence[str]
    subspaces: Subspaces
    settings: AlignmentSettings

    @classmethod
    def of(
        cls, backbone: Backbone, examples: Sequence[Example], settings: AlignmentSettings
    ) -> Pivot:
        """Raises DataError as :func:`answer_words` and :func:`pivot_subspaces`; ModelError for fewer layers than blocks."""
        sites = sites_of(depth_ends(backbone.num_layers, settings), settings.modules)
        words: list[str] = []
        if choose_probe(examples, settings.probe) == "words":
            words = answer_words(examples, backbone)
        return cls(
            backbone,
            sites,
            words,
            pivot_subspaces(backbone, sites, examples, settings, words),
            settings,
        )

    def observe(self, examples: Sequence[Example]) -> Iterator[Observation]:
        """The pivot's pass over the examples, as it is."""
        return observe(self.backbone, self.sites, examples, self.settings, self.words)

    def show(self, seen: Observation) -> Observation:
        """What others need to see of it.

        Returns:
            for each site ``z`` = A x [tokens, r], ``u`` = Bᵀ g [tokens, probes, r], and ``y``, its outputs in orthonormal
            coordinates of which the first r are Bᵀ y: only these [tokens, r], or all [tokens, d_out] where B is fitted to outputs.
        """
        shown = {}
        for key, kinds in seen.sites.items():
            a, b, whole = (value.to(kinds["x"]) for value in self._maps[key])
            shown[key] = {"z": kinds["x"] @ a.t(), "y": kinds["y"] @ whole, "u": kinds["g"] @ b}
        return Observation(shown, seen.origins, seen.names)

    @cached_property
    def _maps(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        outputs = self.settings.method in ("outputs", "release")
        maps = {}
        for site in self.sites:
            a, b = self.subspaces[f"{site.key}.A"], self.subspaces[f"{site.key}.B"]
            rest = torch.linalg.qr(b, mode="complete").Q[:, b.shape[1] :] if outputs else b[:, :0]
            maps[site.key] = a, b, torch.cat((b, rest), 1)
        return maps


def random_subspaces(
    backbone: Backbone, sites: Sequence[AdapterSite], rank: int, seed: int
) -> dict[str, Tensor]:
    """Orthonormal random A [r, d_in] and B [d_out, r] of every site, float64; the pair that an adapter starts with."""
    found: dict[str, Tensor] = {}
    for site in sites:
        linear = linear_at(backbone, site)
        pair = random_pair(
            linear.in_features, linear.out_features, rank, seed, site.layer, site.module
        )
        found[f"{site.key}.A"], found[f"{site.key}.B"] = pair
    return found


def pivot_subspaces(
    backbone: Backbone,
    sites: Sequence[AdapterSite],
    examples: Sequence[Example],
    settings: AlignmentSettings,
    words: Sequence[str] = (),
) -> Subspaces:
    """The pivot's A and B by ``settings.pivot_init``.

    ``random``: orthonormal; ``svd``: singular vectors of the base weight (as LoRA-XS, arXiv 2405.17604); ``principal``: A of the
    principal directions of the layer's input, B of those of its output gradients, uncentred.

    Raises:
        ModelError: ``svd`` with a rank above the weight's. DataError: ``principal`` with too few directions in the data.
    """
    if settings.pivot_init == "random":
        return random_subspaces(backbone, sites, settings.rank, settings.seed)
    if settings.pivot_init == "svd":
        found: dict[str, Tensor] = {}
        for site in sites:
            weight = linear_at(backbone, site).weight
            found[f"{site.key}.A"], found[f"{site.key}.B"] = svd_pair(weight, settings.rank)
        return found
    sums: dict[str, Tensor] = {}
    for seen in observe(backbone, sites, examples, settings, words):
        for key, kinds in seen.sites.items():
            for which, rows in (("A", kinds["x"]), ("B", kinds["g"].flatten(0, 1))):
                wide = rows.to("cpu", torch.float64)
                square = wide.t() @ wide
                sums[f"{key}.{which}"] = (
                    sums[f"{key}.{which}"] + square if f"{key}.{which}" in sums else square
                )
    return {
        name: _principal(square, settings.rank)
        if name.endswith(".A")
        else _principal(square, settings.rank).t()
        for name, square in sums.items()
    }


def _principal(square: Tensor, rank: int) -> Tensor:
    """The r leading eigenvectors as rows [r, d], signs made unique."""
    if rank > len(square):
        raise DataError(f"the rank {rank} is above the width {len(square)} of a layer; lower it")
    vectors = torch.linalg.eigh(square).eigenvectors.flip(1)[:, :rank]
    sign = torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))
    return nearest_orthonormal((vectors * sign).t())
