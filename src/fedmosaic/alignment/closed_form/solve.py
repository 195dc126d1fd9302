"""Closed forms: A and B of a model from the second moments it shares with the pivot.

Every map here is [r, d] and ends with orthonormal rows, in float64; B is the transpose of one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedmosaic.alignment.closed_form.moments import Moments
from fedmosaic.errors import DataError


def nearest_orthonormal(matrix: Tensor) -> Tensor:
    """The matrix with orthonormal rows nearest to ``matrix`` [r, d]: U Vᵀ of its thin SVD.

    Raises:
        DataError: its rank is below r, so that there is no single nearest one.
    """
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    if float(s[-1]) <= 1e-12 * float(s[0]) or matrix.shape[0] > matrix.shape[1]:
        rank = int((s > 1e-12 * s[0]).sum())
        raise DataError(
            f"the public data shows {rank} independent directions, but the rank is {matrix.shape[0]}: use more or more "
            "varied public examples, or a lower rank"
        )
    polar: Tensor = u @ vh
    return polar


def ridge(moments: Moments, strength: float = 1e-3) -> Tensor:
    """The map M [r, d] of least E‖M x − z‖² + λ‖M‖²: M = C_zx (C_xx + λ I)⁻¹, λ = strength × mean diagonal of C_xx.

    Not orthonormal: directions of x that say little of z are shrunk.
    """
    values, vectors = torch.linalg.eigh(moments.own)
    values = values.clamp_min(0)
    # C_xz has nothing in directions that x never takes, where without a penalty there would be no inverse.
    taken = values > 1e-13 * values[-1]
    inverse = torch.where(taken, 1 / (values + strength * values.mean()).where(taken, 1.0), 0.0)
    solution: Tensor = vectors @ (inverse[:, None] * (vectors.t() @ moments.cross))
    return solution.t()


def fit_ridge(moments: Moments, strength: float = 1e-3) -> Tensor:
    """Ridge regression, then the nearest orthonormal rows (section 3 of the method, A step)."""
    return nearest_orthonormal(ridge(moments, strength))


def fit_procrustes(moments: Moments) -> Tensor:
    """Orthogonal Procrustes: the orthonormal rows of greatest E⟨M x, z⟩, U Vᵀ of C_zx."""
    return nearest_orthonormal(moments.cross.t())


def output_map(moments: Moments, pivot_b: Tensor, strength: float = 1e-3) -> Tensor:
    """B_i [d_out, r] from the covariances of the two models' outputs: CCA, and back.

    With W = (C + λI)^{−½} of either model and W_i C_ip W_p = U S Vᵀ, an output change B_p v of the pivot is Vᵀ W_p B_p v in the
    shared space and W_i^{+} U Vᵀ W_p B_p v in the model's outputs; then the nearest orthonormal columns. The shared space is of the
    directions whose canonical correlation S exceeds ``strength``: others are directions that the outputs never take, and would
    be rounding noise at full strength. Source: FedMosaic (arXiv 2506.11024), alignment of B.

    Raises:
        DataError: the shared space has fewer than r directions.
    """
    whiten_own, colour_own = _whitening(moments.own, strength)
    whiten_pivot, _ = _whitening(moments.other, strength)
    u, s, vh = torch.linalg.svd(whiten_own @ moments.cross @ whiten_pivot, full_matrices=False)
    shared = s > strength
    return nearest_orthonormal(
        (colour_own @ u[:, shared] @ vh[shared] @ whiten_pivot @ pivot_b.double()).t()
    ).t()


def release_map(moments: Moments, own_b: Tensor, pivot_b: Tensor, strength: float = 1e-3) -> Tensor:
    """B_i as the paper's public code forms it, for comparison: every canonical correlation taken for 1, the result inside the
    span of the model's own random B, and not orthonormalised.
    """
    own, pivot = own_b.double(), pivot_b.double()
    whiten_own, _ = _whitening(own.t() @ moments.own @ own, strength)
    whiten_pivot, colour_pivot = _whitening(pivot.t() @ moments.other @ pivot, strength)
    u, _, vh = torch.linalg.svd(whiten_own @ (own.t() @ moments.cross @ pivot) @ whiten_pivot)
    mapped: Tensor = own @ whiten_own @ u @ vh @ colour_pivot
    return mapped


def residual(moments: Moments, mapped: Tensor) -> float:
    """How much of z is not M x, whatever its scale: 1 − (E⟨M x, z⟩)² / (E‖M x‖² E‖z‖²); 0 is perfect, 1 is nothing."""
    m = mapped.double()
    inner = (m @ moments.cross).trace()
    energy = ((m @ moments.own) * m).sum() * moments.other.trace()
    return float(1 - inner.clamp_min(0).square() / energy.clamp_min(1e-300))


def coordinate_correlation(moments: Moments, mapped: Tensor) -> float:
    """Mean over the r coordinates of the (uncentred) correlation between (M x)_k and z_k: what one P can use in both models."""
    m = mapped.double()
    mine = ((m @ moments.own) * m).sum(1)
    theirs = moments.other.diagonal()
    return float(((m @ moments.cross).diagonal() / (mine * theirs).clamp_min(1e-30).sqrt()).mean())


def canonical_correlations(moments: Moments, mapped: Tensor, strength: float = 1e-3) -> Tensor:
    """Canonical correlations between M x and z, [r], falling: the same up to any invertible mixing of coordinates."""
    m = mapped.double()
    whiten_own, _ = _whitening(m @ moments.own @ m.t(), strength)
    whiten_other, _ = _whitening(moments.other, strength)
    values: Tensor = torch.linalg.svdvals(whiten_own @ (m @ moments.cross) @ whiten_other)
    return values.clamp(max=1.0)


def seen_through(moments: Moments, pivot_map: Tensor) -> Moments:
    """The moments of (x, M z) from those of (x, z)."""
    m = pivot_map.double()
    seen = Moments()
    seen.count, seen.own = moments.count, moments.own
    seen.cross, seen.other = moments.cross @ m.t(), m @ moments.other @ m.t()
    return seen


def enough(moments: Moments, rank: int, what: str) -> None:
    """Raise DataError where there are fewer matched tokens than the rank needs, or ``what`` is nothing but zeros."""
    if moments.count < 2 * rank:
        raise DataError(
            f"the public data has {moments.count} matched tokens, too few for rank {rank}: at least {2 * rank} are needed; "
            "use more public examples or a lower rank"
        )
    for whose, energy in (("model", moments.own.trace()), ("pivot", moments.other.trace())):
        if energy == 0:
            raise DataError(
                f"the {whose}'s {what} are all zero, as in a layer that does nothing; use alignment.layers=cka"
            )


def _whitening(covariance: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """(C + λI)^{−½} and (C + λI)^{½}, λ = strength × mean diagonal."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(0) + strength * values.clamp_min(0).mean().clamp_min(1e-30)
    return (vectors * values.rsqrt()) @ vectors.t(), (vectors * values.sqrt()) @ vectors.t()
