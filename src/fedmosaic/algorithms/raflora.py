"""Run raFLoRA: each part of the rank is averaged over the clients that have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.algorithms.common.ranks import Adapter, RankedLora, factors, pairs


class RaFLoRA(RankedLora):
    """Average each part of the rank over the clients that have it, and cut the sum by an SVD.

    The ranks of an architecture's clients, 0 = r_0 < r_1 < … < r_H, divide the rank into parts:

        ΔW = Σ_h Σ_{i: r_i ≥ r_h} w_ih s·B_i[:, r_{h−1}:r_h] A_i[r_{h−1}:r_h],
        w_ih = n_i / Σ_{j: r_j ≥ r_h} n_j
        ΔW = U Σ Vᵀ,   client of rank r:  s·B = U[:, :r] Σ[:r],  A = Vᵀ[:r]

    FlexLoRA divides all parts by the samples of all clients. A direction that only the larger ranks
    have then shrinks in every round by the share of the clients that lack it, which the paper calls
    rank collapse. With one rank for all, both are the same.

    - Up: A_i and B_i.
    - Down: A and B at the client's rank.

    Source: Wu et al. 2026 (arXiv 2602.13486), section 5, Algorithm 1. The abstract was read. The
    formula was checked against the public code of another group that implements Algorithm 1 as a
    baseline, because the authors have published none.

    Differences from the paper:

    - The sums are over the clients that took part in the round. A part that only absent clients
      have adds nothing to ΔW, as in that code.
    - Where the singular values go is this project's reading: to B, as in FlexLoRA here and in the
      first author's earlier code. The code mentioned above gives a square root to each factor.
    - ΔW is never formed: an SVD of the factors gives the same result.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "raflora"
    summary: ClassVar[str] = (
        "LoRA of any ranks: each part of the rank averaged over the clients that have it, then an "
        "SVD"
    )
    paper: ClassVar[str] = "raFLoRA, Wu et al. 2026 (arXiv 2602.13486)"

    def combine(
        self,
        server: Server,
        architecture: str,
        adapters: Sequence[Adapter],
        weights: Tensor,
        ranks: Sequence[int],
    ) -> Mapping[int, Adapter]:
        combined: dict[int, dict[str, Tensor]] = {rank: {} for rank in ranks}
        for modules in zip(*map(pairs, adapters), strict=True):
            site = modules[0][0]
            shares = direction_shares(weights, [a.shape[0] for _, a, _ in modules])
            weighted = [
                share[:, None] * a for share, (_, a, _) in zip(shares, modules, strict=True)
            ]
            stacked_b = torch.cat([b for _, _, b in modules], dim=1)
            a, b = factors(torch.cat(weighted), stacked_b, ranks[-1])
            for rank, adapter in combined.items():
                adapter |= {f"{site}.A": a[:rank], f"{site}.B": b[:, :rank]}
        return combined


def direction_shares(weights: Tensor, ranks: Sequence[int]) -> list[Tensor]:
    """Return for each client the weight of each of its directions, float64 [r_i].

    The weights of one direction sum to 1 over the clients that have it. They are equal within a
    part of the rank, so that parts need not be named.

    Args:
        weights: the clients' shares of the samples, float64 [clients].
        ranks: r_i, the clients' ranks.
    """
    has = torch.arange(max(ranks)) < torch.tensor(list(ranks))[:, None]
    shares = has * weights[:, None]
    shares = shares / shares.sum(0)
    return [row[:rank] for row, rank in zip(shares, ranks, strict=True)]
