"""A and B in closed form, of what tells the examples of one question apart, weighted by how far the models share it.

The inputs are centred over the examples of each question, which differ in their pictures alone, so that only what depends on the picture
counts; most at the token that predicts the answer, where P learns. The same for B, of the gradients at that token. Directions that the
models do not share weigh little: nothing here is made orthonormal. Second moments are all that is kept of a question, so there may be any
number; and many there must be: A and B mean the same for such questions and answers as were asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedmosaic.alignment.refinement.effects import Subspaces, Traces, effects
from fedmosaic.errors import DataError

PREDICTION = 0.6
"""Share of the token that predicts the answer in the moments of the inputs; the rest is that of the images' tokens."""
RIDGE_A, RIDGE_B = 1e-2, 1e-3
STRENGTH = 1e-2
"""RMS of Bᵀ g over the contrasts of all sites: how strongly a P of one moves the choice, the same in every model."""

LEAST_SHARE = 1e-2
"""Share of a site where the models have nothing in common."""
LARGEST_CONDITION = 9.0


class Moments:
    """Second moments of N models side by side at every site, over any number of questions; float64.

    For each site two matrices of all pairs of models, Σ xᵢ xⱼᵀ of the inputs and Σ gᵢ gⱼᵀ of the gradients, each [Σ d, Σ d].
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._widths: dict[str, list[int]] = {}

    def update(self, traces: Sequence[Traces]) -> None:
        """Add one question, as each of the models sees it."""
        for key in traces[0].x:
            for name, rows in (("A", _inputs), ("B", _gradients)):
                parts = [rows(trace, key) for trace in traces]
                whole = torch.cat(parts, 1)
                square = whole.t() @ whole
                known = self._sums.get(f"{key}.{name}")
                self._sums[f"{key}.{name}"] = square if known is None else known.add_(square)
                self._widths[f"{key}.{name}"] = [part.shape[1] for part in parts]

    def shared(self, rank: int) -> list[dict[str, Tensor]]:
        """A [r, d_in] and B [d_out, r] of every site, for all models at once: canonical correlation analysis of all (MAXVAR).

        With W_i = (C_i + l I)^{−½} and the eigenvectors v_k = (v_k1 … v_kN) of the matrix of all W_i C_ij W_j, falling in μ_k,

            ρ_k = (μ_k − 1) / (N − 1),      row k of A_i = ρ_k (v_ki / ‖v_ki‖)ᵀ W_i

        ρ is the mean correlation of the models in a direction, so what only one of them knows has no weight. With a single model
        all ρ are one, and the rows are its principal directions.

        Raises:
            DataError: a layer is narrower than the rank.
        """
        found: list[dict[str, Tensor]] = [{} for _ in next(iter(self._widths.values()))]
        for name, total in self._sums.items():
            maps = _canonical(
                total, self._widths[name], rank, RIDGE_A if name.endswith("A") else RIDGE_B
            )
            for own, matrix in zip(found, maps, strict=True):
                own[name] = matrix if name.endswith("A") else matrix.t().contiguous()
        return found

    def joined(self, subspaces: Subspaces) -> dict[str, Tensor]:
        """A and B of the first model, regressed on what those of the second, ``subspaces``, see of the same questions."""
        found = {}
        for name, total in self._sums.items():
            width, is_a = self._widths[name][0], name.endswith("A")
            rows = (subspaces[name] if is_a else subspaces[name].t()).double()
            own, cross = total[:width, :width], total[:width, width:] @ rows.t()
            penalty = (
                (RIDGE_A if is_a else RIDGE_B)
                * own.diagonal().mean()
                * torch.eye(width, dtype=own.dtype)
            )
            solution = torch.linalg.solve(own + penalty, cross).float()
            found[name] = solution.t().contiguous() if is_a else solution.contiguous()
        return found


def _inputs(trace: Traces, key: str) -> Tensor:
    """Rows [tokens, d_in], float64: images' tokens in order and the last one, centred over the examples."""
    x = trace.x[key].double()
    last = x[:, -1:]
    if not trace.images.any():
        return (last - last.mean(0)).flatten(0, 1)
    shown = x[trace.images].view(len(x), -1, x.shape[-1])
    shown = (shown - shown.mean(0)) * ((1 - PREDICTION) / shown.shape[1]) ** 0.5
    return torch.cat(((last - last.mean(0)) * PREDICTION**0.5, shown), 1).flatten(0, 1)


def _gradients(trace: Traces, key: str) -> Tensor:
    return trace.g[key][:, :, -1].double().flatten(0, 1)


def _canonical(total: Tensor, widths: Sequence[int], rank: int, ridge: float) -> list[Tensor]:
    """The maps [r, d] of :meth:`Moments.shared`."""
    if rank > min(widths):
        raise DataError(
            f"the rank {rank} is above the width {min(widths)} of a layer; lower alignment.rank"
        )
    starts = [sum(widths[:number]) for number in range(len(widths))]
    whitening = [
        _whitening(total[a : a + w, a : a + w], ridge) for a, w in zip(starts, widths, strict=True)
    ]
    whole = torch.block_diag(*whitening)  # type: ignore[no-untyped-call]
    values, vectors = torch.linalg.eigh(whole @ total @ whole)
    values, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank]
    vectors = vectors * torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))
    shared = (
        ((values - 1) / (len(widths) - 1)).clamp(0, 1)
        if len(widths) > 1
        else torch.ones_like(values)
    )
    maps = []
    for start, width, white in zip(starts, widths, whitening, strict=True):
        part = vectors[start : start + width]
        part = part / part.norm(dim=0).clamp_min(1e-6) * shared
        maps.append((part.t() @ white).float().contiguous())
    return maps


def _whitening(square: Tensor, ridge: float) -> Tensor:
    values, vectors = torch.linalg.eigh(square)
    values = values.clamp_min(0)
    root: Tensor = (vectors * (values + ridge * values.mean()).rsqrt()) @ vectors.t()
    return root


def agreement(pairs: Sequence[Subspaces], traces: Sequence[Sequence[Traces]]) -> dict[str, float]:
    """For each site the cosine of the models' effects of P, centred over the examples of each question; the mean of all pairs of models.

    How much of what an entry of P does at a site it does in the other models too; 1 for a single model.
    """
    found = {}
    for key in traces[0][0].x:
        grams = torch.zeros(len(pairs), len(pairs), dtype=torch.float64)
        for asked in zip(*traces, strict=True):
            phi = torch.stack(
                [
                    effects(trace.at(key), pair).flatten(1)
                    for trace, pair in zip(asked, pairs, strict=True)
                ]
            ).double()
            flat = (phi - phi.mean(1, keepdim=True)).flatten(1)
            grams += flat @ flat.t()
        norms = grams.diagonal().clamp_min(1e-30).sqrt()
        cosines = grams / norms / norms[:, None]
        others = ~torch.eye(len(pairs), dtype=torch.bool)
        found[key] = float(cosines[others].mean()) if len(pairs) > 1 else 1.0
    return found


def strengths(subspaces: Subspaces, traces: Sequence[Traces]) -> dict[str, float]:
    """For each site what P of one can do there: RMS of A x, centred, times that of Bᵀ g, at the predicting token."""
    found = {}
    for key in traces[0].x:
        z, u = _seen(subspaces, traces, key)
        found[key] = float(z * u)
    return found


def balance(
    subspaces: Subspaces,
    traces: Sequence[Traces],
    shares: Mapping[str, float],
    *,
    exactly: bool = False,
) -> dict[str, Tensor]:
    """Scaled so that A x, centred, has unit RMS at the predicting token, and Bᵀ g there an RMS in proportion to the site's share.

    The RMS over all sites is :data:`STRENGTH`, unless the shares are to be met ``exactly``. No share is below :data:`LEAST_SHARE`.
    """
    shares = {key: max(share, LEAST_SHARE) for key, share in shares.items()}
    common = 1.0 if exactly else (sum(share**2 for share in shares.values()) / len(shares)) ** 0.5
    found: dict[str, Tensor] = {}
    for key, share in shares.items():
        z, u = _seen(subspaces, traces, key)
        # Traces hold gradients in units of a hundredth, so an RMS of one there is the strength here.
        found[f"{key}.A"], found[f"{key}.B"] = (
            subspaces[f"{key}.A"] / z,
            subspaces[f"{key}.B"] * (share / common / u),
        )
    return found


def _seen(subspaces: Subspaces, traces: Sequence[Traces], key: str) -> tuple[Tensor, Tensor]:
    z = torch.cat(
        [(x - x.mean(0)) @ subspaces[f"{key}.A"].t() for x in (trace.last[key] for trace in traces)]
    )
    u = torch.cat(
        [(trace.g[key][:, :, -1].float() @ subspaces[f"{key}.B"]).flatten() for trace in traces]
    )
    return z.square().mean().sqrt(), u.square().mean().sqrt()


def conditioned(subspaces: Subspaces) -> dict[str, Tensor]:
    """With small singular values raised, so that no A or B has a condition number above :data:`LARGEST_CONDITION`."""
    found = {}
    for key, matrix in subspaces.items():
        u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
        found[key] = ((u * s.clamp_min(float(s[0]) / LARGEST_CONDITION)) @ vh).float().contiguous()
    return found


def condition(subspaces: Subspaces) -> float:
    """The largest condition number of all A and B."""
    values = (torch.linalg.svdvals(matrix.double()) for matrix in subspaces.values())
    return max(float(s[0] / s[-1].clamp_min(1e-30)) for s in values)
