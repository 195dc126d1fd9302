"""Solve for A and B of a group of models in closed form, from their traces on pseudo-tasks.

Inputs are centred over the examples of each pseudo-task. The examples differ only in their images
or texts, so that only what depends on these counts. The token that predicts the answer has the
largest weight, because P learns there. B is computed in the same way from the gradients at that
token. Directions that the models do not share get small weights; nothing here is made orthonormal.

Only second moments of a pseudo-task are stored, so any number can be used. It must be large: A and
B are aligned only for questions and answer words like those of the pseudo-tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.alignment.common import Subspaces
from fedmosaic.alignment.correspondence.positions import pool
from fedmosaic.alignment.refinement.traces import Traces
from fedmosaic.errors import DataError

PREDICTION = 0.6
"""Weight of the token that predicts the answer in the moments of inputs; images have the rest."""
RIDGE_A, RIDGE_B = 1e-2, 1e-3


class GroupMoments:
    """Accumulate second moments of N models side by side at every site, in float64.

    For each site two matrices [Σ d, Σ d] over all pairs of models: Σ xᵢ xⱼᵀ of the inputs and
    Σ gᵢ gⱼᵀ of the gradients.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._widths: dict[str, list[int]] = {}

    def update(self, traces: Sequence[Traces]) -> None:
        """Add one pseudo-task: the traces of each model, always in the same order."""
        for key in traces[0].x:
            for name, rows in (("A", _inputs), ("B", _gradients)):
                parts = [rows(trace, key) for trace in traces]
                whole = torch.cat(parts, 1)
                square = whole.t() @ whole
                total = self._sums.get(f"{key}.{name}")
                self._sums[f"{key}.{name}"] = square if total is None else total.add_(square)
                self._widths[f"{key}.{name}"] = [part.shape[1] for part in parts]

    def between(self, name: str, one: int, other: int) -> Tensor:
        """Return C [d_one, d_other] of two models, summed over everything that was added.

        Args:
            name: ``{key}.A`` for the inputs of a site, ``{key}.B`` for its output gradients.
            one: number of the model of the rows, in the order of the traces.
            other: number of the model of the columns.
        """
        ends = [0, *itertools.accumulate(self._widths[name])]
        rows, columns = (slice(ends[model], ends[model + 1]) for model in (one, other))
        return self._sums[name][rows, columns]

    def solve_group(self, rank: int) -> list[dict[str, Tensor]]:
        """Solve for A [r, d_in] and B [d_out, r] of all models together.

        This is canonical correlation analysis of several sets (MAXVAR). With W_i = (C_i + l I)^{−½}
        and the eigenvectors v_k = (v_k1 … v_kN) of the matrix of all W_i C_ij W_j, falling in μ_k,

            ρ_k = (μ_k − 1) / (N − 1),      row k of A_i = ρ_k (v_ki / ‖v_ki‖)ᵀ W_i

        ρ is the mean correlation of the models in a direction, so a direction of one model alone
        has no weight. With a single model all ρ are one, and the rows are its principal directions.

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

    def solve_joining(self, subspaces: Subspaces) -> dict[str, Tensor]:
        """Solve for A and B of the first model, with those of the second fixed to ``subspaces``.

        This is ridge regression on what the second model's A and B compute.
        """
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
    """Return rows [tokens, d_in] in float64, centred over the examples.

    They are the last token and the images' places in order, mean-pooled where a model has several
    tokens at a place.
    """
    x = trace.x[key].double()
    last = x[:, -1:]
    count = int(trace.images.max()) + 1
    if not count:
        return (last - last.mean(0)).flatten(0, 1)
    images = torch.stack(
        [pool(own, places, count) for own, places in zip(x, trace.images, strict=True)]
    )
    images = (images - images.mean(0)) * ((1 - PREDICTION) / images.shape[1]) ** 0.5
    return torch.cat(((last - last.mean(0)) * PREDICTION**0.5, images), 1).flatten(0, 1)


def _gradients(trace: Traces, key: str) -> Tensor:
    return trace.g[key][:, :, -1].double().flatten(0, 1)


def _canonical(total: Tensor, widths: Sequence[int], rank: int, ridge: float) -> list[Tensor]:
    """Compute the maps [r, d] of :meth:`GroupMoments.solve_group`."""
    if rank > min(widths):
        raise DataError(
            f"the rank {rank} is above the width {min(widths)} of a layer; lower r (in a scenario "
            "adapter.shared_r or adapter.r)"
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
    """Return (C + l I)^{−½} with l = ``ridge`` times the mean eigenvalue."""
    values, vectors = torch.linalg.eigh(square)
    values = values.clamp_min(0)
    root: Tensor = (vectors * (values + ridge * values.mean()).rsqrt()) @ vectors.t()
    return root
