"""Set the size of A and B at each site, so that a P has the same strength in every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedmosaic.alignment.common import Subspaces
from fedmosaic.alignment.refinement.effects import effects
from fedmosaic.alignment.refinement.traces import Traces

STRENGTH = 1e-2
"""RMS of Bᵀ g over the contrasts of all sites, the same in every model.

It is how strongly a P of one moves the choice. Traces are recorded in this unit."""

LEAST_SHARE = 1e-2
"""Share of a site where the models have nothing in common."""
LARGEST_CONDITION = 9.0


def agreement(pairs: Sequence[Subspaces], traces: Sequence[Sequence[Traces]]) -> dict[str, float]:
    """Measure, for each site, the mean cosine of the effects of P over all pairs of models.

    Effects are centred over the examples of each pseudo-task. The cosine says how much of what an
    entry of P does at a site it does in the other models too; it is 1 for a single model.

    Args:
        pairs: A and B of each model.
        traces: for each model its traces on the same pseudo-tasks.
    """
    found = {}
    for key in traces[0][0].x:
        grams = torch.zeros(len(pairs), len(pairs), dtype=torch.float64)
        for per_model in zip(*traces, strict=True):
            phi = torch.stack(
                [
                    effects(trace.at(key), pair).flatten(1)
                    for trace, pair in zip(per_model, pairs, strict=True)
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
    """Measure the strength of a P of one at each site, at the predicting token.

    It is the RMS of A x, centred, times the RMS of Bᵀ g.
    """
    found = {}
    for key in traces[0].x:
        z, u = _sizes(subspaces, traces, key)
        found[key] = float(z * u)
    return found


def balance(
    subspaces: Subspaces,
    traces: Sequence[Traces],
    shares: Mapping[str, float],
    *,
    exactly: bool = False,
) -> dict[str, Tensor]:
    """Scale A and B of one model to a given share of strength at each site.

    At the predicting token A x, centred, gets unit RMS, and Bᵀ g an RMS in proportion to the site's
    share.

    Args:
        subspaces: A and B.
        traces: of the model, to measure sizes.
        shares: of each site; none counts for less than :data:`LEAST_SHARE`.
        exactly: use the shares as they are. Otherwise they are scaled to an RMS of
            :data:`STRENGTH` over all sites.
    """
    shares = {key: max(share, LEAST_SHARE) for key, share in shares.items()}
    common = 1.0 if exactly else (sum(share**2 for share in shares.values()) / len(shares)) ** 0.5
    found: dict[str, Tensor] = {}
    for key, share in shares.items():
        z, u = _sizes(subspaces, traces, key)
        # Traces hold gradients in units of STRENGTH, so an RMS of one there is the strength here.
        found[f"{key}.A"], found[f"{key}.B"] = (
            subspaces[f"{key}.A"] / z,
            subspaces[f"{key}.B"] * (share / common / u),
        )
    return found


def _sizes(subspaces: Subspaces, traces: Sequence[Traces], key: str) -> tuple[Tensor, Tensor]:
    """Return the RMS of A x, centred over the examples, and of Bᵀ g at the predicting token."""
    z = torch.cat(
        [(x - x.mean(0)) @ subspaces[f"{key}.A"].t() for x in (trace.last[key] for trace in traces)]
    )
    u = torch.cat(
        [(trace.g[key][:, :, -1].float() @ subspaces[f"{key}.B"]).flatten() for trace in traces]
    )
    return z.square().mean().sqrt(), u.square().mean().sqrt()


def limit_condition(subspaces: Subspaces) -> dict[str, Tensor]:
    """Raise small singular values until no condition number exceeds :data:`LARGEST_CONDITION`."""
    found = {}
    for key, matrix in subspaces.items():
        u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
        found[key] = ((u * s.clamp_min(float(s[0]) / LARGEST_CONDITION)) @ vh).float().contiguous()
    return found


def condition(subspaces: Subspaces) -> float:
    """Return the largest condition number of all A and B."""
    values = (torch.linalg.svdvals(matrix.double()) for matrix in subspaces.values())
    return max(float(s[0] / s[-1].clamp_min(1e-30)) for s in values)
