"""A control for alignment: A and B that are what they were in their own model, and mean nothing in another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedmosaic.seeding import generator


def turned(tensors: Mapping[str, Tensor], *seed: int | str) -> dict[str, Tensor]:
    """Every A and B turned by a random rotation of its own: A ← R A, B ← B R′, with R, R′ uniform among the orthogonal ones.

    Subspaces and strength of every site stay as they are (AᵀA and BBᵀ do), and so what one model can learn does; but a P that
    was learned here is read in other coordinates by a model that was turned under another seed.

    Args:
        tensors: as of :class:`~fedmosaic.alignment.Alignment`. seed: names the model and the run.
    """
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        rank = value.shape[0 if key.endswith(".A") else 1]
        normal = torch.randn(
            rank, rank, generator=generator(*seed, "turned", key), dtype=torch.float64
        )
        q, r = torch.linalg.qr(normal)
        rotation = q * r.diagonal().sign()  # uniform (Haar) only with the signs of R's diagonal
        exact = value.double()
        found[key] = (rotation @ exact if key.endswith(".A") else exact @ rotation).to(value.dtype)
    return found
