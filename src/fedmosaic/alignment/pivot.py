"""The pivot's own A and B: chosen once, from the pivot alone, and kept; everybody else is fitted to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.adapters.subspace import random_pair, svd_pair
from fedmosaic.alignment.observe import Subspaces, observe
from fedmosaic.alignment.sites import Site, linear_at
from fedmosaic.alignment.solve import nearest_orthonormal
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone


def random_subspaces(backbone: Backbone, sites: Sequence[Site], rank: int, seed: int) -> dict[str, Tensor]:
    """Orthonormal random A [r, d_in] and B [d_out, r] of every site, float64; the pair that an adapter starts with."""
    found: dict[str, Tensor] = {}
    for site in sites:
        linear = linear_at(backbone, site)
        pair = random_pair(linear.in_features, linear.out_features, rank, seed, site.layer, site.module)
        found[f"{site.key}.A"], found[f"{site.key}.B"] = pair
    return found


def pivot_subspaces(
    backbone: Backbone,
    sites: Sequence[Site],
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
                sums[f"{key}.{which}"] = sums[f"{key}.{which}"] + square if f"{key}.{which}" in sums else square
    return {
        name: _principal(square, settings.rank) if name.endswith(".A") else _principal(square, settings.rank).t()
        for name, square in sums.items()
    }


def _principal(square: Tensor, rank: int) -> Tensor:
    """The r leading eigenvectors as rows [r, d], signs made unique."""
    if rank > len(square):
        raise DataError(f"the rank {rank} is above the width {len(square)} of a layer; lower it")
    vectors = torch.linalg.eigh(square).eigenvectors.flip(1)[:, :rank]
    sign = torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))
    return nearest_orthonormal((vectors * sign).t())
