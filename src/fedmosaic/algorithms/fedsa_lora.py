"""FedSA-LoRA: A is averaged, B stays with its client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.algorithms.common.lora import parameter_groups
from fedmosaic.algorithms.common.ranks import Adapter, RankedLora, first_rows, padded_mean, resize
from fedmosaic.training.optimiser import ParameterGroup


class FedSALoRA(RankedLora):
    """Both A and B are trained; only A travels, among the clients of one architecture:

        A ← Σ_i w_i A_i,   w_i = n_i / Σ_j n_j,   B_i stays

    Of several ranks, which the paper has not, each row of A is averaged over the clients that have it; where none of them took
    part, it stays as it was. Adam's moments of B last from round to round, those of A start anew.

    Source: Guo et al., ICLR 2025 (arXiv 2410.01463), section 3.
    """

    name: ClassVar[str] = "fedsa_lora"
    summary: ClassVar[str] = "LoRA's A averaged within each architecture, B personal"
    paper: ClassVar[str] = "FedSA-LoRA, ICLR 2025 (arXiv 2410.01463)"
    shared: ClassVar[tuple[str, ...]] = ("A",)

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        (group,) = parameter_groups(model, "local")
        halves = [
            {k: p for k, p in group.parameters.items() if k.endswith(part)} for part in (".A", ".B")
        ]
        return [ParameterGroup(group.role, half, personal=half is halves[1]) for half in halves]

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
        present = padded_mean(
            [{k: torch.ones_like(a) for k, a in adapter.items()} for adapter in adapters],
            weights,
            top,
        )
        known = server.state.get(f"rank {top}@{architecture}", architecture)
        for key, share in present.items():
            absent = known[key] if known else first_rows(*share.shape, self.seed, architecture, key)
            mean[key] = torch.where(share > 0, mean[key] / share, absent)
        return {rank: resize(mean, rank) for rank in ranks}
