"""Run FlexLoRA: the full products are averaged and cut to every client's rank by an SVD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.algorithms.common.ranks import Adapter, RankedLora, factors, pairs


class FlexLoRA(RankedLora):
    """Average the products B A, and approximate the mean best at each client's rank.

        ΔW = Σ_i w_i s·B_i A_i = U Σ Vᵀ,   w_i = n_i / Σ_j n_j
        client of rank r:  s·B = U[:, :r] Σ[:r],  A = Vᵀ[:r]

    over the clients of one architecture. The mean is exact where a client's rank is at least that
    of ΔW, and the closest matrix of its rank elsewhere.

    - Up: A_i and B_i.
    - Down: A and B at the client's rank.

    Source: Bai et al., NeurIPS 2024 (arXiv 2402.11505), section 3.

    Differences from the paper:

    - ΔW is never formed: an SVD of the factors gives the same result.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "flexlora"
    summary: ClassVar[str] = (
        "LoRA of any ranks: the products averaged, an SVD cuts the mean to each client's rank"
    )
    paper: ClassVar[str] = "FlexLoRA, NeurIPS 2024 (arXiv 2402.11505)"

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
            weighted = [weight * a for weight, (_, a, _) in zip(weights, modules, strict=True)]
            stacked_b = torch.cat([b for _, _, b in modules], dim=1)
            a, b = factors(torch.cat(weighted), stacked_b, ranks[-1])
            for rank, adapter in combined.items():
                adapter |= {f"{site}.A": a[:rank], f"{site}.B": b[:, :rank]}
        return combined
