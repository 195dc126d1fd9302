"""Translate P and Q from the frame of one model into that of another, for one pair of models.

Aligned A and B of a group are a compromise between all its models. For a giver j and a receiver i,
regression on the same examples says what the giver's coordinates z = A x and u = Bᵀ g are in terms
of the receiver's:

    z_j ≈ V z_i,   V = A_j C_ji A_iᵀ (A_i C_ii A_iᵀ)⁻¹          C = Σ x xᵀ over all pairs of models
    u_j ≈ Uᵀ u_i,  Uᵀ likewise from B and the output gradients

so that u_jᵀ (P z_j + Q) ≈ u_iᵀ (U P V z_i + U Q): the receiver takes U P V and U Q. Ours; in no
paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedmosaic.alignment.common import Subspaces
from fedmosaic.alignment.refinement.closed_form import GroupMoments

RIDGE = 1e-4
"""Penalty of the regression, relative to the mean square of a coordinate."""


def translators(
    moments: GroupMoments, pairs: Sequence[Subspaces], giver: int, receiver: int
) -> dict[str, Tensor]:
    """Compute U and V of all sites.

    Args:
        moments: of the aligned models.
        pairs: A and B of each model, in the order of the moments.
        giver: number of the model that learned P and Q.
        receiver: number of the model that uses them.

    Returns:
        ``{key}.U`` and ``{key}.V`` [r, r] of each site's key, float32.
    """
    found = {}
    for name in pairs[receiver]:
        own, other = (
            (pair[name] if name.endswith(".A") else pair[name].t()).double()
            for pair in (pairs[receiver], pairs[giver])
        )
        square = own @ moments.between(name, receiver, receiver) @ own.t()
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        cross = own @ moments.between(name, receiver, giver) @ other.t()
        solution = torch.linalg.solve(square + ridge, cross).float()
        key, is_a = name[:-2], name.endswith(".A")
        found[f"{key}.V" if is_a else f"{key}.U"] = solution.t() if is_a else solution
    return found


def translate(tensors: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return U P V and U Q of all sites.

    Args:
        tensors: ``{key}.P`` […, r, r] and ``{key}.Q`` […, r].
        maps: as of :func:`translators`.
    """
    found = {}
    for name, value in tensors.items():
        u, v = maps[f"{name[:-2]}.U"], maps[f"{name[:-2]}.V"]
        found[name] = u @ value @ v if name.endswith(".P") else value @ u.t()
    return found
