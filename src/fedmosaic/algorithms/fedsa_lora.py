"""Run FedSA-LoRA: A is averaged, B stays with its client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.algorithms.common.lora import parameter_groups
from fedmosaic.algorithms.common.ranks import (
    Adapter,
    RankedLora,
    combined_key,
    first_rows,
    is_a,
    padded_mean,
    resize,
)
from fedmosaic.training.optimiser import ParameterGroup


class FedSALoRA(RankedLora):
    """Train A and B; average A over the clients of one architecture.

        A ← Σ_i w_i A_i,   w_i = n_i / Σ_j n_j,   B_i stays

    Adam's moments of B last from round to round, those of A start anew.

    - Up: A_i.
    - Down: A.

    Source: Guo et al., ICLR 2025 (arXiv 2410.01463), section 3.

    Differences from the paper:

    - Clients may have different ranks. Each row of A is then averaged over the clients that have
      it; where none of them took part, it stays as it was.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "fedsa-lora"
    summary: ClassVar[str] = "LoRA's A averaged within each architecture, B personal"
    paper: ClassVar[str] = "FedSA-LoRA, ICLR 2025 (arXiv 2410.01463)"
    shared: ClassVar[tuple[str, ...]] = ("A",)

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        (group,) = parameter_groups(model, "local")
        a = {key: value for key, value in group.parameters.items() if is_a(key)}
        b = {key: value for key, value in group.parameters.items() if not is_a(key)}
        return [ParameterGroup(group.role, a), ParameterGroup(group.role, b, personal=True)]

    def combine(
        self,
        server: Server,
        architecture: str,
        adapters: Sequence[Adapter],
        weights: Tensor,
        ranks: Sequence[int],
    ) -> Mapping[int, Adapter]:
        top = ranks[-1]
        mean = padded_mean(adapters, weights, top)
        ones = [{key: torch.ones_like(a) for key, a in adapter.items()} for adapter in adapters]
        known = server.state.get(combined_key(architecture, top))
        for key, share in padded_mean(ones, weights, top).items():
            absent = known[key] if known else first_rows(*share.shape, self.seed, architecture, key)
            mean[key] = torch.where(share > 0, mean[key] / share, absent)
        return {rank: resize(mean, rank) for rank in ranks}
