"""Run FFA-LoRA: A stays frozen, so that averaging B averages what the adapters do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.algorithms.common.lora import parameter_groups
from fedmosaic.algorithms.common.ranks import Adapter, RankedLora, is_a, padded_mean, resize
from fedmosaic.training.optimiser import ParameterGroup


class FFALoRA(RankedLora):
    """Freeze a random A, equal for all clients of an architecture; train and average B.

        B ← Σ_i w_i B_i,   so that   s·B A = Σ_i w_i s·B_i A,   w_i = n_i / Σ_j n_j

    - Up: B_i.
    - Down: B.

    Source: Sun et al., ICLR 2024 (arXiv 2403.12313), section 4.

    Differences from the paper:

    - Clients may have different ranks. B_i is then filled up with zeros: A_i is the first rows of
      the longest A, so the equation holds for the client with the largest rank, and a smaller one
      takes the first columns.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "ffa-lora"
    summary: ClassVar[str] = "LoRA with a frozen random A: only B is trained and averaged"
    paper: ClassVar[str] = "FFA-LoRA, ICLR 2024 (arXiv 2403.12313)"
    shared: ClassVar[tuple[str, ...]] = ("B",)

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        (group,) = parameter_groups(model, "local")
        for key, parameter in group.parameters.items():
            parameter.requires_grad_(not is_a(key))
        trained = {key: p for key, p in group.parameters.items() if p.requires_grad}
        return [ParameterGroup(group.role, trained)]

    def combine(
        self,
        server: Server,
        architecture: str,
        adapters: Sequence[Adapter],
        weights: Tensor,
        ranks: Sequence[int],
    ) -> Mapping[int, Adapter]:
        mean = padded_mean(adapters, weights, ranks[-1])
        return {rank: resize(mean, rank) for rank in ranks}
