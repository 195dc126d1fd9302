"""Check every closed form, which gets second moments, against float64 formulas on the data."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from fedmosaic.alignment.closed_form.moments import PairMoments
from fedmosaic.alignment.closed_form.solve import (
    canonical_correlations,
    check_sufficient,
    coordinate_correlation,
    fit_procrustes,
    fit_ridge,
    map_pivot_side,
    nearest_orthonormal,
    output_map,
    release_map,
    residual,
    ridge,
)
from fedmosaic.errors import DataError

ROWS, D, E, R = 300, 12, 10, 4
DRAW = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


X = normal(ROWS, D) @ normal(D, D)
Y = X @ normal(D, E) + 3 * normal(ROWS, E)
B, OWN_B = (torch.linalg.qr(normal(size, R)).Q for size in (E, D))
MAP = normal(R, D)


def moments(x: Tensor, z: Tensor) -> PairMoments:
    made = PairMoments()
    for one, two in zip(x.split(70), z.split(70), strict=True):
        made.update(one, two)
    return made


def inverse_root(x: Tensor, strength: float = 0.0) -> Tensor:
    """Whiten by a Cholesky factor, not by the symmetric root."""
    covariance = x.t() @ x
    covariance += (
        strength * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    )
    return torch.linalg.inv(torch.linalg.cholesky(covariance))


def close(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one, two, atol=1e-9, rtol=1e-9)


def test_moments_are_sums_in_any_order() -> None:
    parts = list(zip(X.split(100), Y.split(100), strict=True))
    for order in permutations(parts):
        made = PairMoments()
        for x, y in order:
            made.update(x, y)
        assert made.count == ROWS
        close(made.own, X.t() @ X)
        close(made.cross, X.t() @ Y)
        close(made.other, Y.t() @ Y)
    single = PairMoments()
    single.update(X.float(), Y.float())
    assert single.own.dtype == torch.float64
    close(single.own, X.float().double().t() @ X.float().double())


@pytest.mark.parametrize("strength", [0.0, 1e-3, 0.5])
def test_ridge_is_least_squares_with_penalty_rows(strength: float) -> None:
    penalty = (strength * X.square().sum() / D).sqrt() * torch.eye(D, dtype=torch.float64)
    expected = torch.linalg.lstsq(
        torch.cat((X, penalty)), torch.cat((Y, torch.zeros(D, E, dtype=torch.float64)))
    )
    close(ridge(moments(X, Y), strength), expected.solution.t())


def test_ridge_without_penalty_is_the_shortest_solution_where_there_are_many() -> None:
    flat = X[:, :6] @ normal(6, D)
    close(ridge(moments(flat, Y), 0.0), (torch.linalg.pinv(flat) @ Y).t())


def test_the_nearest_orthonormal_rows() -> None:
    polar = nearest_orthonormal(MAP)
    close(polar @ polar.t(), torch.eye(R, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(MAP @ MAP.t())
    close(polar, vectors @ torch.diag(values**-0.5) @ vectors.t() @ MAP)
    close(
        fit_ridge(moments(X, Y[:, :R]), 0.01),
        nearest_orthonormal(ridge(moments(X, Y[:, :R]), 0.01)),
    )


def test_procrustes_is_the_best_of_all_orthonormal_maps() -> None:
    z = Y[:, :R]
    found = fit_procrustes(moments(X, z))
    close(found @ found.t(), torch.eye(R, dtype=torch.float64))
    value = ((X @ found.t()) * z).sum()
    for _ in range(200):
        other = nearest_orthonormal(found + 0.3 * normal(R, D))
        assert ((X @ other.t()) * z).sum() < value
    rotation = torch.linalg.qr(normal(D, D)).Q
    whole = fit_procrustes(moments(X @ rotation.t(), X))
    close(whole, rotation.t())


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 0.1])
def test_b_from_outputs_is_cca_and_back(strength: float) -> None:
    """The pivot's B_p v becomes C_i U Vᵀ W_p B_p v, whatever square roots are taken."""
    whiten_own, whiten_pivot = inverse_root(X, strength), inverse_root(Y, strength)
    u, s, vh = torch.linalg.svd(whiten_own @ X.t() @ Y @ whiten_pivot.t(), full_matrices=False)
    expected = (
        torch.linalg.inv(whiten_own)
        @ u
        @ torch.diag((s > strength).double())
        @ vh
        @ whiten_pivot
        @ B
    )
    values, vectors = torch.linalg.eigh(expected.t() @ expected)
    expected = expected @ vectors @ torch.diag(values**-0.5) @ vectors.t()
    found = output_map(moments(X, Y), B, strength)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)
    close(found.t() @ found, torch.eye(R, dtype=torch.float64))


def test_b_from_outputs_leaves_out_what_outputs_never_do() -> None:
    """Outputs in seven directions with float32 noise: the noise must not count as directions."""
    flat_own, flat_pivot = X[:, :7] @ normal(7, D), X[:, :7] @ normal(7, E)

    def noisy(x: Tensor) -> Tensor:
        return x + 1e-7 * x.std() * normal(*x.shape)

    exact = output_map(moments(flat_own, flat_pivot), B)
    for _ in range(3):
        found = output_map(moments(noisy(flat_own), noisy(flat_pivot)), B)
        torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)
    with pytest.raises(DataError, match="has 3 independent directions, but the rank is 4"):
        output_map(moments(X[:, :3] @ normal(3, D), Y), B)


def test_b_from_outputs_does_not_depend_on_the_coordinates_of_the_pivots() -> None:
    rotation = torch.linalg.qr(normal(E, E)).Q
    close(output_map(moments(X, Y @ rotation.t()), rotation @ B), output_map(moments(X, Y), B))


def test_the_releases_b_stays_in_the_span_of_its_own_and_is_not_orthonormal() -> None:
    found = release_map(moments(X, Y), OWN_B, B)
    close(OWN_B @ (OWN_B.t() @ found), found)
    assert (found.t() @ found - torch.eye(R, dtype=torch.float64)).abs().max() > 0.01
    own, pivot = X @ OWN_B, Y @ B
    # Every canonical correlation is taken as 1: whitened on one side, coloured on the other.
    inside = OWN_B.t() @ found
    whiten = inverse_root(own, 1e-3)
    mapped = torch.linalg.inv(whiten.t()) @ inside
    covariance = pivot.t() @ pivot + 1e-3 * (pivot.square().sum() / R) * torch.eye(
        R, dtype=torch.float64
    )
    close(mapped.t() @ mapped, covariance)


def test_residual_is_what_the_best_scale_leaves() -> None:
    z, mapped = Y[:, :R], X @ MAP.t()
    scale = (mapped * z).sum() / mapped.square().sum()
    left = (scale.clamp_min(0) * mapped - z).square().sum() / z.square().sum()
    assert residual(moments(X, z), MAP) == pytest.approx(float(left), abs=1e-12)
    assert residual(moments(X, mapped), 3 * MAP) == pytest.approx(0, abs=1e-12)
    assert residual(moments(X, mapped), -MAP) == 1  # the wrong way round is nothing
    assert residual(moments(X, torch.zeros(ROWS, R)), MAP) == 1


def test_correlations() -> None:
    z, mapped = Y[:, :R], X @ MAP.t()
    each = [float(mapped[:, k] @ z[:, k] / mapped[:, k].norm() / z[:, k].norm()) for k in range(R)]
    assert coordinate_correlation(moments(X, z), MAP) == pytest.approx(sum(each) / R, abs=1e-12)
    q_one, q_two = torch.linalg.qr(mapped).Q, torch.linalg.qr(z).Q
    found = canonical_correlations(moments(X, z), MAP, strength=0)
    close(found, torch.linalg.svdvals(q_one.t() @ q_two))
    mixed = canonical_correlations(moments(X, z), normal(R, R) @ MAP, strength=0)
    close(mixed, found)
    assert coordinate_correlation(moments(X, mapped), MAP) == pytest.approx(1)


def test_the_pivot_side_can_be_mapped() -> None:
    mapped = map_pivot_side(moments(X, Y), B.t())
    direct = moments(X, Y @ B)
    close(mapped.cross, direct.cross)
    close(mapped.other, direct.other)
    assert mapped.count == ROWS and torch.equal(mapped.own, moments(X, Y).own)


def test_too_little_is_named() -> None:
    with pytest.raises(DataError, match="300 matched tokens, too few for rank 151: at least 302"):
        check_sufficient(moments(X, Y), 151, "inputs")
    check_sufficient(moments(X, Y), 150, "inputs")
    with pytest.raises(DataError, match="the pivot's outputs are all zero"):
        check_sufficient(moments(X, 0 * Y), 4, "outputs")
    with pytest.raises(DataError, match="has 3 independent directions, but the rank is 4"):
        fit_ridge(moments(X, Y[:, :3] @ normal(3, 4)))
    with pytest.raises(DataError, match="has 12 independent directions, but the rank is 13"):
        nearest_orthonormal(normal(13, 12))
    with pytest.raises(DataError, match="has 0 independent directions"):
        fit_ridge(moments(X, 0 * Y[:, :R]))
