"""Combine LoRA adapters of different ranks.

A client of rank r_i has A_i [r_i, d_in], B_i [d_out, r_i] and ΔW_i = s·B_i A_i with the same s for
all clients (``adapter.alpha`` / ``adapter.r``), so that s never enters an aggregate. Sums are
formed in float64.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.adapters.keys import TensorKey
from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator

Adapter = Mapping[str, Tensor]
"""A client's LoRA by tensor key: ``layer.{i}.{module}.A`` and ``.B``."""


class RankedLora(FedAvg):
    """Aggregate adapters of different ranks within each architecture, as :meth:`combine` says.

    All clients of an architecture start from one A: that of a smaller rank is the first rows of a
    larger one's. Architectures share nothing with each other.

    Class attributes:
        shared: the parameters that travel, ``A``, ``B`` or both.
    """

    mixed_ranks: ClassVar[bool] = True
    trims: ClassVar[bool] = False
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
        """Return what the clients of each rank receive.

        Args:
            server: its ``state`` has what was combined before, under :func:`combined_key`.
            architecture: whose adapters they are.
            adapters: what this round's clients of the architecture sent.
            weights: the clients' shares of the samples, float64 [clients], sum 1.
            ranks: all ranks in the architecture, rising.
        """

    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        model = super().build(backbone, public, alignment)
        rows = {
            key: first_rows(*value.shape, self.seed, backbone.identity, key)
            for key, value in read_state(model, "local").items()
            if is_a(key)
        }
        write_state(model, "local", rows, partial=True)
        return model

    def receive(self, client: Client, download: Message) -> None:
        write_state(client.model, "local", download.tensors, partial=True)

    def upload(self, client: Client) -> Message:
        adapter = read_state(client.model, "local")
        shared = {k: v for k, v in adapter.items() if TensorKey.parse(k).parameter in self.shared}
        return Message(shared)

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        for architecture in dict.fromkeys(member.architecture for member in server.members):
            members = [member for member in server.members if member.architecture == architecture]
            # By name: stacks and sums are then the same to the last bit for any roster order.
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
                server.state.put(combined_key(architecture, rank), adapter)

    def download(self, server: Server, member: Member) -> Message:
        rank = self.scenario.rank_of(member.name)
        return Message(server.state.get(combined_key(member.architecture, rank)))


def combined_key(architecture: str, rank: int) -> StateKey:
    """Return the key of what clients of an architecture and rank receive."""
    return StateKey("combined", architecture, rank)


def is_a(key: str) -> bool:
    """Return whether the key names LoRA's A."""
    return TensorKey.parse(key).parameter == "A"


def first_rows(rank: int, width: int, *name: int | str) -> Tensor:
    """Return A at the start, [rank, width], uniform in ±1/√width as in PEFT.

    A smaller rank gives the first rows of a larger one.

    Args:
        rank: number of rows.
        width: number of columns.
        name: seeds the draw.
    """
    draw = generator("lora rows", *name)
    bound = width**-0.5
    rows = [torch.empty(width).uniform_(-bound, bound, generator=draw) for _ in range(rank)]
    return torch.stack(rows)


def pairs(adapter: Adapter) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield for each module its key without the parameter, and A and B in float64."""
    for key in sorted(adapter):
        if is_a(key):
            site = TensorKey.parse(key).site
            yield site, adapter[key].double(), adapter[f"{site}.B"].double()


def resize(adapter: Adapter, rank: int) -> dict[str, Tensor]:
    """Return the adapter at another rank.

    The last rows of A and columns of B are cut off, or zeros are appended.
    """
    return {key: resize_along(value, 0 if is_a(key) else 1, rank) for key, value in adapter.items()}


def resize_along(value: Tensor, dimension: int, size: int) -> Tensor:
    """Return the tensor cut, or filled up with zeros, to a size along one dimension."""
    cut = value.narrow(dimension, 0, min(size, value.shape[dimension]))
    missing = list(cut.shape)
    missing[dimension] = size - cut.shape[dimension]
    return torch.cat([cut, cut.new_zeros(missing)], dim=dimension)


def padded_mean(adapters: Sequence[Adapter], weights: Tensor, rank: int) -> dict[str, Tensor]:
    """Return Σ_i w_i X_i for A and B each on their own, in float64.

    Args:
        adapters: smaller ranks are filled up with zeros.
        weights: w, float64 [adapters].
        rank: of the result.
    """
    padded = [resize(adapter, rank) for adapter in adapters]
    return {
        key: torch.tensordot(weights, torch.stack([adapter[key].double() for adapter in padded]), 1)
        for key in padded[0]
    }


def squared_norm(a: Tensor, b: Tensor) -> float:
    """Return ‖B A‖² (Frobenius) of A [r, d_in] and B [d_out, r], as Σ (Bᵀ B) ∘ (A Aᵀ)."""
    return float(((b.T @ b) * (a @ a.T)).sum().clamp_min(0))


def factors(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A' [rank, d_in] and B' [d_out, rank] with B' A' the best approximation of B A.

    With B A = U Σ Vᵀ these are A' = Vᵀ and B' = U Σ, cut off at the rank. B A is never formed:
    Householder QR of both factors leaves an SVD of the size of their rank R. Where ``rank`` exceeds
    R, the rows of A' without a singular value come from an orthonormal completion, as the SVD of
    the whole matrix would give them, so that they can still be trained.

    Args:
        a: [R, d_in], float64.
        b: [d_out, R], float64.
        rank: of the result.
    """
    if a.shape[0] < rank:
        fresh = first_rows(rank - a.shape[0], a.shape[1], "completion").to(a)
        a, b = torch.cat([a, fresh]), torch.cat([b, b.new_zeros(b.shape[0], len(fresh))], dim=1)
    q_in, r_in = torch.linalg.qr(a.T)
    q_out, r_out = torch.linalg.qr(b)
    u, sigma, vh = torch.linalg.svd(r_out @ r_in.T, full_matrices=False)
    return resize_along(vh @ q_in.T, 0, rank), resize_along(q_out @ (u * sigma), 1, rank)
