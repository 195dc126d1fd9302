"""Solve for A and B in closed form, from the second moments that a model shares with the pivot.

Every map here is [r, d] in float64 and ends with orthonormal rows; B is the transpose of one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedmosaic.alignment.closed_form.moments import PairMoments
from fedmosaic.errors import DataError


def nearest_orthonormal(matrix: Tensor) -> Tensor:
    """Return the matrix with orthonormal rows nearest to ``matrix`` [r, d]: U Vᵀ of its thin SVD.

    Raises:
        DataError: the matrix has a rank below r, so that no single matrix is nearest.
    """
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    if float(s[-1]) <= 1e-12 * float(s[0]) or matrix.shape[0] > matrix.shape[1]:
        rank = int((s > 1e-12 * s[0]).sum())
        raise DataError(
            f"the public data has {rank} independent directions, but the rank is "
            f"{matrix.shape[0]}: use more or more varied public examples, or a lower rank"
        )
    polar: Tensor = u @ vh
    return polar


def ridge(moments: PairMoments, strength: float = 1e-3) -> Tensor:
    """Return the map M [r, d] that minimises E‖M x − z‖² + λ‖M‖².

    M = C_zx (C_xx + λ I)⁻¹ with λ = ``strength`` times the mean diagonal of C_xx. M is not
    orthonormal: directions of x that predict little of z are shrunk.
    """
    values, vectors = torch.linalg.eigh(moments.own)
    values = values.clamp_min(0)
    # C_xz is zero in directions that x never takes, where without a penalty there is no inverse.
    taken = values > 1e-13 * values[-1]
    inverse = torch.where(taken, 1 / (values + strength * values.mean()).where(taken, 1.0), 0.0)
    solution: Tensor = vectors @ (inverse[:, None] * (vectors.t() @ moments.cross))
    return solution.t()


def fit_ridge(moments: PairMoments, strength: float = 1e-3) -> Tensor:
    """Fit by ridge regression and take the nearest orthonormal rows (section 3, A step)."""
    return nearest_orthonormal(ridge(moments, strength))


def fit_procrustes(moments: PairMoments) -> Tensor:
    """Fit by orthogonal Procrustes: U Vᵀ of C_zx, the rows with the greatest E⟨M x, z⟩."""
    return nearest_orthonormal(moments.cross.t())


def output_map(moments: PairMoments, pivot_b: Tensor, strength: float = 1e-3) -> Tensor:
    """Map the pivot's B to the model by canonical correlation analysis of the two models' outputs.

    With W = (C + λI)^{−½} of either model and W_i C_ip W_p = U S Vᵀ, an output change B_p v of the
    pivot is Vᵀ W_p B_p v in the shared space and W_i^{+} U Vᵀ W_p B_p v in the model's outputs;
    then the nearest orthonormal columns are taken. The shared space consists of the directions
    whose canonical correlation S exceeds ``strength``. Other directions never occur in the outputs,
    and would be rounding noise at full strength. Source: FedMosaic (arXiv 2506.11024), alignment of
    B.

    Args:
        moments: of the models' outputs.
        pivot_b: B of the pivot [d_out, r].
        strength: λ as a share of the mean diagonal.

    Returns:
        B of the model [d_out, r].

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


def release_map(
    moments: PairMoments, own_b: Tensor, pivot_b: Tensor, strength: float = 1e-3
) -> Tensor:
    """Map the pivot's B to the model as the paper's public code does, for comparison.

    Every canonical correlation is taken as 1, the result lies inside the span of the model's own
    random B, and it is not orthonormal.

    Args:
        moments: of the models' outputs.
        own_b: random B of the model [d_out, r].
        pivot_b: B of the pivot [d_out, r].
        strength: λ as a share of the mean diagonal.

    Returns:
        B of the model [d_out, r].
    """
    own, pivot = own_b.double(), pivot_b.double()
    whiten_own, _ = _whitening(own.t() @ moments.own @ own, strength)
    whiten_pivot, colour_pivot = _whitening(pivot.t() @ moments.other @ pivot, strength)
    u, _, vh = torch.linalg.svd(whiten_own @ (own.t() @ moments.cross @ pivot) @ whiten_pivot)
    mapped: Tensor = own @ whiten_own @ u @ vh @ colour_pivot
    return mapped


def residual(moments: PairMoments, mapped: Tensor) -> float:
    """Return the share of z that no scaling of M x explains: 0 is perfect, 1 is nothing.

    1 − (E⟨M x, z⟩)² / (E‖M x‖² E‖z‖²)
    """
    m = mapped.double()
    inner = (m @ moments.cross).trace()
    energy = ((m @ moments.own) * m).sum() * moments.other.trace()
    return float(1 - inner.clamp_min(0).square() / energy.clamp_min(1e-300))


def coordinate_correlation(moments: PairMoments, mapped: Tensor) -> float:
    """Average the (uncentred) correlation between (M x)_k and z_k over the r coordinates.

    This is what one P can use in both models.
    """
    m = mapped.double()
    own_squares = ((m @ moments.own) * m).sum(1)
    pivot_squares = moments.other.diagonal()
    return float(
        (
            (m @ moments.cross).diagonal() / (own_squares * pivot_squares).clamp_min(1e-30).sqrt()
        ).mean()
    )


def canonical_correlations(moments: PairMoments, mapped: Tensor, strength: float = 1e-3) -> Tensor:
    """Return the canonical correlations between M x and z, [r], falling.

    They do not change under any invertible mixing of coordinates.
    """
    m = mapped.double()
    whiten_own, _ = _whitening(m @ moments.own @ m.t(), strength)
    whiten_other, _ = _whitening(moments.other, strength)
    values: Tensor = torch.linalg.svdvals(whiten_own @ (m @ moments.cross) @ whiten_other)
    return values.clamp(max=1.0)


def map_pivot_side(moments: PairMoments, pivot_map: Tensor) -> PairMoments:
    """Return the moments of (x, M z) from those of (x, z)."""
    m = pivot_map.double()
    mapped = PairMoments()
    mapped.count, mapped.own = moments.count, moments.own
    mapped.cross, mapped.other = moments.cross @ m.t(), m @ moments.other @ m.t()
    return mapped


def check_sufficient(moments: PairMoments, rank: int, what: str) -> None:
    """Check that there are enough matched tokens for the rank and that they are not all zero.

    Args:
        moments: of the matched tokens.
        rank: r.
        what: what the rows are, for messages.

    Raises:
        DataError: fewer than 2 r tokens, or rows that are all zero.
    """
    if moments.count < 2 * rank:
        raise DataError(
            f"the public data has {moments.count} matched tokens, too few for rank {rank}: at "
            f"least {2 * rank} are needed; use more public examples or a lower rank"
        )
    for whose, energy in (("model", moments.own.trace()), ("pivot", moments.other.trace())):
        if energy == 0:
            raise DataError(
                f"the {whose}'s {what} are all zero, as in a layer that does nothing; use "
                "adapter.block_rule=cka"
            )


def _whitening(covariance: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Return (C + λI)^{−½} and (C + λI)^{½} with λ = ``strength`` times the mean diagonal."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(0) + strength * values.clamp_min(0).mean().clamp_min(1e-30)
    return (vectors * values.rsqrt()) @ vectors.t(), (vectors * values.sqrt()) @ vectors.t()
