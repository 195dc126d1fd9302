"""Where refinement starts: closed forms of what tells the examples of one question apart, weighted by how well it is known.

The inputs are centred over the examples of each question, which differ in their pictures alone, so that only what depends on the picture
counts; most at the token that predicts the answer, where P learns. The same for B, of the gradients at that token. Directions that the
models do not share weigh little: nothing here is made orthonormal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fedmosaic.alignment.refinement.effects import Subspaces, Traces
from fedmosaic.errors import DataError

PREDICTION = 0.6
"""Share of the token that predicts the answer in the moments of the inputs; the rest is that of the images' tokens."""
RIDGE_A, RIDGE_B = 1e-2, 1e-3
STRENGTH = 1e-2
"""RMS of Bᵀ g over the contrasts of all sites: how strongly a P of one moves the choice, the same in every model."""
LARGEST_CONDITION = 9.0


def group_start(traces: Sequence[Sequence[Traces]], rank: int) -> list[dict[str, Tensor]]:
    """A [r, d_in] and B [d_out, r] of every site for N models at once: canonical correlation analysis of all of them (MAXVAR).

    With W_i = (C_i + l I)^{−½} and the eigenvectors v_k = (v_k1 … v_kN) of the matrix of all W_i C_ij W_j, falling in μ_k,

        ρ_k = (μ_k − 1) / (N − 1),      row k of A_i = ρ_k² (v_ki / ‖v_ki‖)ᵀ W_i

    ρ is the mean correlation of the models in a direction, so what only one of them knows has no weight. With a single model all ρ are
    one, and the rows are its principal directions.

    Raises:
        DataError: a layer is narrower than the rank.
    """
    found: list[dict[str, Tensor]] = [{} for _ in traces]
    for key in traces[0][0].x:
        for name, rows, ridge in (("A", _inputs, RIDGE_A), ("B", _gradients, RIDGE_B)):
            maps = _canonical([rows(each, key) for each in traces], rank, ridge)
            for own, matrix in zip(found, maps, strict=True):
                own[f"{key}.{name}"] = matrix if name == "A" else matrix.t().contiguous()
    return found


def joiner_start(own: Sequence[Traces], pivot: Sequence[Traces], subspaces: Subspaces) -> dict[str, Tensor]:
    """The same of another model, regressed on what the pivot's pairs see of the same questions."""
    found = {}
    for key in own[0].x:
        a, b = subspaces[f"{key}.A"].double(), subspaces[f"{key}.B"].double()
        seen = ((x, z @ a.t()) for x, z in zip(_inputs(own, key), _inputs(pivot, key), strict=True))
        felt = ((g, u @ b) for g, u in zip(_gradients(own, key), _gradients(pivot, key), strict=True))
        found[f"{key}.A"] = _ridge(seen, RIDGE_A)
        found[f"{key}.B"] = _ridge(felt, RIDGE_B).t().contiguous()
    return found


def _inputs(traces: Sequence[Traces], key: str) -> Iterator[Tensor]:
    """For each question rows [tokens, d_in], float64: images' tokens in order and the last one, centred over the examples."""
    for trace in traces:
        x = trace.x[key].double()
        last = x[:, -1:]
        if not trace.images.any():
            yield (last - last.mean(0)).flatten(0, 1)
            continue
        shown = x[trace.images].view(len(x), -1, x.shape[-1])
        shown = (shown - shown.mean(0)) * ((1 - PREDICTION) / shown.shape[1]) ** 0.5
        yield torch.cat(((last - last.mean(0)) * PREDICTION**0.5, shown), 1).flatten(0, 1)


def _gradients(traces: Sequence[Traces], key: str) -> Iterator[Tensor]:
    for trace in traces:
        yield trace.g[key][:, :, -1].double().flatten(0, 1)


def _canonical(models: Sequence[Iterator[Tensor]], rank: int, ridge: float) -> list[Tensor]:
    """The maps [r, d] of :func:`group_start` from the rows of each model, part by part."""
    total, widths = torch.zeros(()), []
    for parts in zip(*models, strict=True):
        widths = [part.shape[1] for part in parts]
        rows = torch.cat(parts, 1)
        total = total + rows.t() @ rows
    if rank > min(widths):
        raise DataError(f"the rank {rank} is above the width {min(widths)} of a layer; lower alignment.rank")
    blocks = [total[a : a + w, a : a + w] for a, w in zip(_starts(widths), widths, strict=True)]
    whitening = [_whitening(block, ridge) for block in blocks]
    whole = torch.block_diag(*whitening)  # type: ignore[no-untyped-call]
    values, vectors = torch.linalg.eigh(whole @ total @ whole)
    values, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank]
    vectors = vectors * torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))
    shared = ((values - 1) / (len(widths) - 1)).clamp(0, 1) if len(widths) > 1 else torch.ones_like(values)
    maps = []
    for start, width, white in zip(_starts(widths), widths, whitening, strict=True):
        part = vectors[start : start + width]
        part = part / part.norm(dim=0).clamp_min(1e-6) * shared.square()
        maps.append((part.t() @ white).float().contiguous())
    return maps


def _starts(widths: Sequence[int]) -> list[int]:
    return [sum(widths[:number]) for number in range(len(widths))]


def _whitening(square: Tensor, ridge: float) -> Tensor:
    values, vectors = torch.linalg.eigh(square)
    values = values.clamp_min(0)
    root: Tensor = (vectors * (values + ridge * values.mean()).rsqrt()) @ vectors.t()
    return root


def _ridge(pairs: Iterator[tuple[Tensor, Tensor]], ridge: float) -> Tensor:
    """M [r, d] of least Σ ‖M x − z‖² + l ‖M‖²."""
    own, cross = torch.zeros(()), torch.zeros(())
    for x, z in pairs:
        own, cross = own + x.t() @ x, cross + x.t() @ z
    penalty = ridge * own.diagonal().mean() * torch.eye(len(own), dtype=own.dtype)
    solution: Tensor = torch.linalg.solve(own + penalty, cross).t().float().contiguous()
    return solution


def balance(subspaces: dict[str, Tensor], traces: Sequence[Traces], *, each: bool) -> dict[str, Tensor]:
    """Scaled so that A x, centred, has unit RMS at the predicting token, and Bᵀ g there the RMS :data:`STRENGTH`.

    Args:
        each: at every site; else over all sites together, which leaves them the weights that they have.
    """
    found: dict[str, Tensor] = {}
    energy: dict[str, Tensor] = {}
    for key in traces[0].x:
        a, b = subspaces[f"{key}.A"], subspaces[f"{key}.B"]
        z = torch.cat([(x - x.mean(0)) @ a.t() for x in (trace.last[key] for trace in traces)]).square().mean().sqrt()
        found[f"{key}.A"], found[f"{key}.B"] = a / z, b * z
        felt = [trace.g[key][:, :, -1].float() @ found[f"{key}.B"] for trace in traces]
        energy[key] = torch.cat([u.flatten() for u in felt]).square().mean()
    common = torch.stack(list(energy.values())).mean()
    for key, own in energy.items():
        # Traces hold gradients in units of a hundredth, so an RMS of one there is the strength here.
        found[f"{key}.B"] = found[f"{key}.B"] / (own if each else common).sqrt()
    return found


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
