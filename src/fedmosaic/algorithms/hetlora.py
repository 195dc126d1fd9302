"""HetLoRA: adapters of different ranks averaged with zeros in the place of what a client lacks; clients prune their own rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.algorithms.base import Client, FitReport, Server
from fedmosaic.algorithms.common.ranks import (
    Adapter,
    RankedLora,
    padded_mean,
    pairs,
    resize,
    squared_norm,
)
from fedmosaic.algorithms.message import Message
from fedmosaic.training.loss import answer_loss


class HetLoRA(RankedLora):
    """Zero-padding, weights by what an adapter does, truncation, and rank self-pruning, among the clients of one architecture:

        A ← Σ_i w_i pad(A_i),   B ← Σ_i w_i pad(B_i),   w_i = ‖ΔW_i‖ / Σ_j ‖ΔW_j‖,   ΔW_i = B_i A_i

    with the Frobenius norm over all layers. A client of rank r takes the first r rows of A and columns of B. It trains with a
    penalty on the last directions,

        F_i + λ Σ_modules ‖B_i[:, γr:r]‖ ‖A_i[γr:r, :]‖

    and where the penalty's norms are smaller after local training than before, it drops these directions for good: r ← ⌊γ r⌋. Dropped
    directions are zeros, which get no gradient and so stay zeros; they still travel. s = α/r stays what it was: pruning does not
    rescale the rest. The product of the averages is not the average of the products (FlexLoRA and FLoRA give that).

    Source: Cho et al., EMNLP 2024 (arXiv 2401.06432), section 4.
    """

    name: ClassVar[str] = "hetlora"
    summary: ClassVar[str] = (
        "LoRA of any ranks: zero-padded, weighted by norm, cut to size; ranks prune themselves"
    )
    paper: ClassVar[str] = "HetLoRA, EMNLP 2024 (arXiv 2401.06432)"

    class Options(RankedLora.Options):
        """``gamma``: γ, share of the rank that pruning leaves; 1 for no pruning. ``penalty``: λ. ``min_rank``: the least rank."""

        gamma: float = Field(default=0.99, gt=0, le=1)
        penalty: float = Field(default=0.01, ge=0)
        min_rank: int = Field(default=1, ge=1)

    # --- client half ------------------------------------------------------------------------------------------------
    def receive(self, client: Client, download: Message) -> None:
        super().receive(client, download)
        self._drop(client)

    def train(self, client: Client) -> FitReport:
        rank = self._rank(client)
        kept = max(int(self.options.gamma * rank), min(self.options.min_rank, rank))
        if kept == rank:
            return client.fit(self.steps)
        trained = adapter_parameters(client.model, "local")

        def tail() -> Tensor:
            norm = torch.linalg.vector_norm
            keys = [key.removesuffix(".A") for key in trained if key.endswith(".A")]
            return torch.stack(
                [
                    norm(trained[f"{k}.B"][:, kept:rank]) * norm(trained[f"{k}.A"][kept:rank])
                    for k in keys
                ]
            ).sum()

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            value: Tensor = answer_loss(model, backbone, batch) + self.options.penalty * tail()
            return value

        before = tail().item()
        report = client.fit(self.steps, loss=loss)
        if tail().item() < before:
            client.state["rank"] = torch.tensor(kept)
            self._drop(client)
        return report

    def _rank(self, client: Client) -> int:
        """What pruning has left of the client's rank."""
        return int(client.state.get("rank", self.scenario.rank_of(client.name)))

    def _drop(self, client: Client) -> None:
        whole = self.scenario.rank_of(client.name)
        if self._rank(client) < whole:
            adapter = resize(read_state(client.model, "local"), self._rank(client))
            write_state(client.model, "local", resize(adapter, whole))

    # --- server half ------------------------------------------------------------------------------------------------
    def combine(
        self,
        server: Server,
        architecture: str,
        adapters: Sequence[Adapter],
        weights: Tensor,
        ranks: Sequence[int],
    ) -> Mapping[int, Adapter]:
        squares = [[squared_norm(a, b) for _, a, b in pairs(adapter)] for adapter in adapters]
        norms = torch.tensor(squares, dtype=torch.float64).sum(1).sqrt()
        weights = norms / norms.sum() if norms.any() else weights
        mean = padded_mean(adapters, weights, ranks[-1])
        return {rank: resize(mean, rank) for rank in ranks}
