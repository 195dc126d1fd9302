"""Rotate aligned A and B at random, as a control that removes the alignment and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedmosaic.seeding import generator

_PURPOSE = "turned"  # names the draw; published runs depend on it


def rotated(tensors: Mapping[str, Tensor], *seed: int | str) -> dict[str, Tensor]:
    """Rotate every A and every B by a random orthogonal matrix of its own.

    A ← R A and B ← B R′, with R and R′ drawn uniformly (Haar) from the orthogonal matrices. AᵀA and
    BBᵀ stay the same, so the model can learn exactly what it could before. A P that was learned
    in this model has another meaning in a model that was rotated with another seed.

    Args:
        tensors: A and B, as in :class:`~fedmosaic.alignment.Alignment`.
        seed: numbers and names that identify the run and the model.

    Returns:
        the rotated tensors, in the same dtype.
    """
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        rank = value.shape[0 if key.endswith(".A") else 1]
        normal = torch.randn(
            rank, rank, generator=generator(*seed, _PURPOSE, key), dtype=torch.float64
        )
        q, r = torch.linalg.qr(normal)
        rotation = q * r.diagonal().sign()  # uniform (Haar) only with the signs of R's diagonal
        exact = value.double()
        found[key] = (rotation @ exact if key.endswith(".A") else exact @ rotation).to(value.dtype)
    return found
