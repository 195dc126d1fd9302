"""FlexLoRA: the mean of the full products, cut down to every client's rank by its singular values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.algorithms.common.ranks import Adapter, RankedLora, factors, pairs


class FlexLoRA(RankedLora):
    """Weighted mean of what the adapters do, and its best approximation at each rank, among the clients of one architecture:

        ΔW = Σ_i w_i s·B_i A_i = U Σ Vᵀ,   client of rank r:  s·B = U[:, :r] Σ[:r],  A = Vᵀ[:r],   w_i = n_i / Σ_j n_j

    The mean is exact where a client's rank is at least that of ΔW, and the closest matrix of its rank elsewhere.

    Source: Bai et al., NeurIPS 2024 (arXiv 2402.11505), section 3.
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
            name = modules[0][0]
            stacked = torch.cat(
                [weight * a for weight, (_, a, _) in zip(weights, modules, strict=True)]
            )
            a, b = factors(stacked, torch.cat([b for _, _, b in modules], dim=1), ranks[-1])
            for rank, adapter in combined.items():
                adapter |= {f"{name}.A": a[:rank], f"{name}.B": b[:, :rank]}
        return combined
