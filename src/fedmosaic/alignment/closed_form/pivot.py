"""Choose the pivot's own A and B, to which all other models are fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite, Placement
from fedmosaic.adapters.subspace import random_pair, svd_pair
from fedmosaic.alignment.closed_form.observe import Observation, observe
from fedmosaic.alignment.closed_form.probes import answer_words, choose_probe
from fedmosaic.alignment.closed_form.solve import nearest_orthonormal
from fedmosaic.alignment.common import Subspaces
from fedmosaic.alignment.hooks import linear_at, site_widths
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.linear import weight_of


@dataclass(frozen=True)
class Pivot:
    """Hold what is fixed before any model is aligned, computed from the pivot and public examples.

    Attributes:
        backbone: the pivot's base model.
        sites: its adapter sites, at block ends by depth.
        words: answer words of word probes; empty for likelihood probes.
        subspaces: its A and B, orthonormal, float64.
        settings: how models are aligned to it.
    """

    backbone: Backbone
    sites: Sequence[AdapterSite]
    words: Sequence[str]
    subspaces: Subspaces
    settings: AlignmentSettings

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        examples: Sequence[Example],
        settings: AlignmentSettings,
        placement: Placement,
    ) -> Pivot:
        """Choose answer words, A and B of a pivot.

        Raises:
            DataError: as :func:`answer_words` and :func:`pivot_subspaces`.
            ModelError: the pivot has fewer layers than blocks.
        """
        sites = placement.sites(placement.block_ends(backbone.num_layers))
        words: list[str] = []
        if choose_probe(examples, settings.probe) == "words":
            words = answer_words(examples, backbone)
        subspaces = pivot_subspaces(backbone, sites, examples, settings, placement.r, words)
        return cls(backbone, sites, words, subspaces, settings)

    def observe(self, examples: Sequence[Example]) -> Iterator[Observation]:
        """Observe the pivot itself on the examples."""
        return observe(self.backbone, self.sites, examples, self.settings, self.words)

    def project(self, observation: Observation) -> Observation:
        """Project an observation of the pivot to what other models are fitted to.

        Returns:
            for each site ``z`` = A x [tokens, r], ``u`` = Bᵀ g [tokens, probes, r], and ``y``, the
            outputs in orthonormal coordinates of which the first r are Bᵀ y. ``y`` holds only these
            [tokens, r], or all coordinates [tokens, d_out] where B is fitted to outputs.
        """
        projected = {}
        for key, values in observation.sites.items():
            a, b, whole = (value.to(values["x"]) for value in self._maps[key])
            projected[key] = {
                "z": values["x"] @ a.t(),
                "y": values["y"] @ whole,
                "u": values["g"] @ b,
            }
        return Observation(projected, observation.origins, observation.example_ids)

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
    """Draw orthonormal random A [r, d_in] and B [d_out, r] for every site, in float64.

    Adapters start with the same pair.
    """
    found: dict[str, Tensor] = {}
    for site in sites:
        d_in, d_out = site_widths(backbone, site)
        pair = random_pair(d_in, d_out, rank, seed, site.layer, site.module)
        found[f"{site.key}.A"], found[f"{site.key}.B"] = pair
    return found


def pivot_subspaces(
    backbone: Backbone,
    sites: Sequence[AdapterSite],
    examples: Sequence[Example],
    settings: AlignmentSettings,
    rank: int,
    words: Sequence[str] = (),
) -> Subspaces:
    """Choose the pivot's A and B by ``settings.pivot_init``.

    - ``random``: orthonormal.
    - ``svd``: singular vectors of the base weight (as LoRA-XS, arXiv 2405.17604).
    - ``principal``: A from the principal directions of the layer's input, B from those of its
      output gradients, both uncentred.

    Raises:
        ModelError: ``svd`` with a rank above the weight's.
        DataError: ``principal`` with too few directions in the data.
    """
    if settings.pivot_init == "random":
        return random_subspaces(backbone, sites, rank, settings.seed)
    if settings.pivot_init == "svd":
        found: dict[str, Tensor] = {}
        for site in sites:
            weight = weight_of(linear_at(backbone, site))
            found[f"{site.key}.A"], found[f"{site.key}.B"] = svd_pair(weight, rank)
        return found
    sums: dict[str, Tensor] = {}
    for observation in observe(backbone, sites, examples, settings, words):
        for key, values in observation.sites.items():
            for which, rows in (("A", values["x"]), ("B", values["g"].flatten(0, 1))):
                wide = rows.to("cpu", torch.float64)
                square = wide.t() @ wide
                sums[f"{key}.{which}"] = (
                    sums[f"{key}.{which}"] + square if f"{key}.{which}" in sums else square
                )
    return {
        name: _principal(square, rank) if name.endswith(".A") else _principal(square, rank).t()
        for name, square in sums.items()
    }


def _principal(square: Tensor, rank: int) -> Tensor:
    """Return the leading eigenvectors as rows [r, d], with unique signs."""
    if rank > len(square):
        raise DataError(f"the rank {rank} is above the width {len(square)} of a layer; lower it")
    vectors = torch.linalg.eigh(square).eigenvectors.flip(1)[:, :rank]
    sign = torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))
    return nearest_orthonormal((vectors * sign).t())
