"""Run HetLoRA: padded adapters of different ranks are averaged; clients prune their rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.adapters.keys import TensorKey
from fedmosaic.algorithms.base import Client, FitReport, Server
from fedmosaic.algorithms.common.ranks import (
    Adapter,
    RankedLora,
    is_a,
    padded_mean,
    pairs,
    resize,
    squared_norm,
)
from fedmosaic.algorithms.message import Message
from fedmosaic.training.loss import answer_loss


class HetLoRA(RankedLora):
    """Pad adapters with zeros, weigh them by norm, truncate, and let clients prune their rank.

        A ← Σ_i w_i pad(A_i),   B ← Σ_i w_i pad(B_i),   w_i = ‖ΔW_i‖ / Σ_j ‖ΔW_j‖,   ΔW_i = B_i A_i

    over the clients of one architecture, with the Frobenius norm over all layers. A client of rank
    r takes the first r rows of A and columns of B. It trains with a penalty on the last directions,

        F_i + λ Σ_modules ‖B_i[:, γr:r]‖ ‖A_i[γr:r, :]‖

    and where the penalty's norms are smaller after local training than before, it drops these
    directions for good: r ← ⌊γ r⌋.

    - Up: A_i and B_i.
    - Down: A and B at the client's rank.

    The product of the averages is not the average of the products; FlexLoRA and FLoRA give that.

    Source: Cho et al., EMNLP 2024 (arXiv 2401.06432), section 4.

    Differences from the paper:

    - Dropped directions are zeros, which get no gradient and so stay zeros; they still travel.
    - s = α/r stays what it was: pruning does not rescale the rest.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "hetlora"
    summary: ClassVar[str] = (
        "LoRA of any ranks: zero-padded, weighted by norm, cut to size; ranks prune themselves"
    )
    paper: ClassVar[str] = "HetLoRA, EMNLP 2024 (arXiv 2401.06432)"

    class Options(RankedLora.Options):
        """Hold the settings of pruning."""

        gamma: float = Field(default=0.99, gt=0, le=1)
        """γ, the share of the rank that pruning leaves; 1: no pruning."""
        penalty: float = Field(default=0.01, ge=0)
        """λ, weight of the penalty on the last directions."""
        min_rank: int = Field(default=1, ge=1)
        """The least rank that pruning leaves."""

    # --- client half ------------------------------------------------------------------------------
    def receive(self, client: Client, download: Message) -> None:
        super().receive(client, download)
        self._drop_pruned(client)

    def train(self, client: Client) -> FitReport:
        rank = self._rank(client)
        pruned = max(int(self.options.gamma * rank), min(self.options.min_rank, rank))
        if pruned == rank:
            return client.fit(self.steps)
        tail = _tail_norms(adapter_parameters(client.model, "local"), pruned, rank)

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            value: Tensor = answer_loss(model, backbone, batch) + self.options.penalty * tail()
            return value

        before = tail().item()
        report = client.fit(self.steps, loss=loss)
        if tail().item() < before:
            client.state["rank"] = torch.tensor(pruned)
            self._drop_pruned(client)
        return report

    def _rank(self, client: Client) -> int:
        """Return the client's rank after pruning."""
        return int(client.state.get("rank", self.scenario.rank_of(client.name)))

    def _drop_pruned(self, client: Client) -> None:
        """Set the pruned directions of the client's adapter to zero."""
        whole = self.scenario.rank_of(client.name)
        if self._rank(client) < whole:
            adapter = resize(read_state(client.model, "local"), self._rank(client))
            write_state(client.model, "local", resize(adapter, whole))

    # --- server half ------------------------------------------------------------------------------
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


def _tail_norms(adapter: Adapter, first: int, last: int) -> Callable[[], Tensor]:
    """Return a function that computes Σ_modules ‖B[:, first:last]‖ ‖A[first:last, :]‖."""
    sites = [TensorKey.parse(key).site for key in adapter if is_a(key)]
    norm = torch.linalg.vector_norm

    def tail() -> Tensor:
        products = [
            norm(adapter[f"{site}.B"][:, first:last]) * norm(adapter[f"{site}.A"][first:last])
            for site in sites
        ]
        return torch.stack(products).sum()

    return tail
