"""LoRA adapters of different ranks: what the algorithms that bring them together have in common.

A client of rank r_i has A_i [r_i, d_in], B_i [d_out, r_i] and ΔW_i = s·B_i A_i with the same s for all (``adapter.r`` in
:mod:`fedmosaic.config`), so that s never enters an aggregate. Sums are formed in float64.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator

Adapter = Mapping[str, Tensor]
"""A client's LoRA by canonical key: ``layer.{i}.{module}.A`` and ``.B``."""


class RankedLora(FedAvg):
    """An algorithm that aggregates adapters of different ranks within each architecture; it defines :meth:`combine`.

    All clients of an architecture start from one A: that of a smaller rank is the first rows of a larger one's. Architectures
    share nothing with each other.

    Class attributes:
        shared: what travels, ``A``, ``B`` or both.
    """

    mixed_ranks: ClassVar[bool] = True
    shared: ClassVar[tuple[str, ...]] = ("A", "B")

    @abstractmethod
    def combine(
        self,
        server: Server,
        architecture: str,
        adapters: Sequence[Adapter],
        weights: Tensor,
        ranks: Sequence[int],
    ) -> Mapping[int, Adapter]:
        """What the clients of each of ``ranks`` receive.

        Args:
            adapters: what this round's clients of the architecture sent. weights: their share of the samples, float64, sum 1.
            ranks: all ranks in the architecture, rising.
        """

    def build(self, backbone: Backbone, public: Sequence[Example]) -> Any:
        model = super().build(backbone, public)
        rows = {
            key: first_rows(*value.shape, self.seed, backbone.identity, key)
            for key, value in read_state(model, "local").items()
            if key.endswith(".A")
        }
        write_state(model, "local", rows, partial=True)
        return model

    def receive(self, client: Client, download: Message) -> None:
        write_state(client.model, "local", download.tensors, partial=True)

    def upload(self, client: Client) -> Message:
        adapter = read_state(client.model, "local")
        return Message(
            {key: value for key, value in adapter.items() if key.rpartition(".")[2] in self.shared}
        )

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        for architecture in dict.fromkeys(member.architecture for member in server.members):
            members = [member for member in server.members if member.architecture == architecture]
            # By name: stacks and sums are then the same to the last bit in whatever order the roster has them.
            group = sorted(
                (member for member in members if member.name in updates),
                key=lambda member: member.name,
            )
            if not group:
                continue
            samples = torch.tensor([member.samples for member in group], dtype=torch.float64)
            adapters = [updates[member.name].tensors for member in group]
            ranks = sorted({self.scenario.rank_of(member.name) for member in members})
            combined = self.combine(server, architecture, adapters, samples / samples.sum(), ranks)
            for rank, adapter in combined.items():
                server.state.put(f"rank {rank}@{architecture}", architecture, adapter)

    def download(self, server: Server, member: Member) -> Message:
        kind = f"rank {self.scenario.rank_of(member.name)}@{member.architecture}"
        return Message(server.state.get(kind, member.architecture))


def first_rows(rank: int, width: int, *name: int | str) -> Tensor:
    """A at the start, [rank, width], uniform in ±1/√width as in PEFT; a smaller rank gives the first rows of a larger one."""
    draw = generator("lora rows", *name)
    return torch.stack(
        [
            torch.empty(width).uniform_(-(width**-0.5), width**-0.5, generator=draw)
            for _ in range(rank)
        ]
    )


def pairs(adapter: Adapter) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Module by module: its key without the last part, A and B in float64."""
    for key in sorted(adapter):
        if key.endswith(".A"):
            module = key.removesuffix(".A")
            yield module, adapter[key].double(), adapter[f"{module}.B"].double()


def resize(adapter: Adapter, rank: int) -> dict[str, Tensor]:
    """The adapter at another rank: the last rows of A and columns of B are cut off, or zeros are put behind them."""
    result = {}
    for key, value in adapter.items():
        along = 0 if key.endswith(".A") else 1
        kept = value.narrow(along, 0, min(rank, value.shape[along]))
        missing = list(kept.shape)
        missing[along] = rank - kept.shape[along]
        result[key] = torch.cat([kept, kept.new_zeros(missing)], dim=along)
    return result


def padded_mean(adapters: Sequence[Adapter], weights: Tensor, rank: int) -> dict[str, Tensor]:
    """Σ_i w_i X_i for A and B each on their own, smaller ranks filled up with zeros; float64."""
    padded = [resize(adapter, rank) for adapter in adapters]
    return {
        key: torch.tensordot(weights, torch.stack([adapter[key].double() for adapter in padded]), 1)
        for key in padded[0]
    }


def squared_norm(a: Tensor, b: Tensor) -> float:
    """‖B A‖² (Frobenius) of A [r, d_in], B [d_out, r] without forming B A: Σ (Bᵀ B) ∘ (A Aᵀ)."""
    return float(((b.T @ b) * (a @ a.T)).sum().clamp_min(0))


def factors(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A' [rank, d_in] and B' [d_out, rank] with B' A' the best approximation of B A of that rank; float64.

    With B A = U Σ Vᵀ these are A' = Vᵀ and B' = U Σ, cut off at the rank. B A is never formed: Householder QR of both
    factors leaves an SVD of the size of their rank R. Where ``rank`` exceeds R, the rows of A' without a singular value come from
    an orthonormal completion (as the SVD of the whole matrix would give them), so that they can still be trained.

    Args:
        a: [R, d_in]. b: [d_out, R].
    """
    if a.shape[0] < rank:
        fresh = first_rows(rank - a.shape[0], a.shape[1], "completion").to(a)
        a, b = torch.cat([a, fresh]), torch.cat([b, b.new_zeros(b.shape[0], len(fresh))], dim=1)
    q_in, r_in = torch.linalg.qr(a.T)
    q_out, r_out = torch.linalg.qr(b)
    u, sigma, vh = torch.linalg.svd(r_out @ r_in.T, full_matrices=False)
    cut = resize({"m.A": vh @ q_in.T, "m.B": q_out @ (u * sigma)}, rank)
    return cut["m.A"], cut["m.B"]
