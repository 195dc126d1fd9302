"""Run FedEx-LoRA: A and B are averaged, and a frozen residual makes the average exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.common.average import averaged, taking_part
from fedmosaic.algorithms.common.frozen_sum import (
    activate_frozen,
    add_frozen,
    append,
    used,
    write_frozen,
)
from fedmosaic.algorithms.common.ranks import Adapter, padded_mean, pairs, resize, squared_norm
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.models.architectures import architectures
from fedmosaic.models.backbone import Backbone

RESIDUAL = "residual"
MEAN = "mean"


class FedExLoRA(FedAvg):
    """Average A and B, and add to W what the product of the averages lacks.

        A = Σ_i w_i A_i,   B = Σ_i w_i B_i,   w_i = n_i / Σ_j n_j
        W ← W + s (Σ_i w_i B_i A_i − B A),   so that   W_new + s·B A = W + Σ_i w_i s·B_i A_i

    over the clients of one architecture, which go on from A and B.

    - Up: A_i and B_i.
    - Down: A and B, and all residuals so far as one pair of factors.

    Source: Singhal et al., ACL 2025 (arXiv 2410.09432), and the authors' code.

    Differences from the paper:

    - W, which clients share in memory, stays as it is. The residuals are a frozen adapter
      ``residual`` of scale 1 next to the trained one: the same function.
    - Residuals are held and sent as factors. Of n clients, a round's is
      Σ_{i<n} w_i (B_i − B)(A_i − A_n), of rank (n − 1) r at most. By default the adapter has rank
      rounds × (n − 1) r or the width of the weight, which holds the sum of all rounds exactly.
      Where the sum outgrows a smaller ``rank``, it is cut to the best approximation (an SVD), and
      the lost share of its ‖·‖² is reported.
    - The sum of all rounds travels down, so that a client may miss rounds. The paper's clients miss
      none and get the residual of the last round.
    - Clients count by their samples. The paper's mean is uniform.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "fedex-lora"
    summary: ClassVar[str] = "LoRA averaged as in FedAvg, and a frozen residual that makes it exact"
    paper: ClassVar[str] = "FedEx-LoRA, ACL 2025 (arXiv 2410.09432)"
    adapters: ClassVar[tuple[str, ...]] = ("local", RESIDUAL)
    trims: ClassVar[bool] = False
    downloads_grow: ClassVar[bool] = True

    class Options(FedAvg.Options):
        """Hold the settings of FedEx-LoRA."""

        rank: int | None = Field(default=None, ge=1)
        """Rank of the adapter of all residuals; None: as needed to hold them exactly."""

    # --- client half ------------------------------------------------------------------------------
    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        model = super().build(backbone, public, alignment)
        add_frozen(model, backbone, self.scenario.adapter, RESIDUAL, self._limit(backbone.name))
        return model.eval()

    def receive(self, client: Client, download: Message) -> None:
        residual = download.select(f"{RESIDUAL}.")
        trained = {key: value for key, value in download.tensors.items() if key not in residual}
        super().receive(client, Message(trained))
        if residual:
            found = {key.removeprefix(f"{RESIDUAL}."): value for key, value in residual.items()}
            write_frozen(client.model, RESIDUAL, found)

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        activate_frozen(client.model, RESIDUAL, "local", RESIDUAL)
        yield client.model

    # --- server half ------------------------------------------------------------------------------
    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        lost, deviation = {}, {}
        for architecture, members in taking_part(server, updates).items():
            # By name: stacks and sums are then the same to the last bit for any roster order.
            group = sorted(members, key=lambda member: member.name)
            samples = torch.tensor([member.samples for member in group], dtype=torch.float64)
            adapters = [updates[member.name].tensors for member in group]
            weights = samples / samples.sum()
            mean = padded_mean(adapters, weights, self.scenario.rank_of(group[0].name))
            if len(group) > 1:
                residual = self._residual(adapters, mean, weights)
                deviation[architecture] = self._deviation(residual, mean)
                lost[architecture] = self._add(server, architecture, residual)
            server.state.put(StateKey(MEAN, architecture), mean)
        server.record("deviation", deviation)
        server.record("lost", lost)

    def download(self, server: Server, member: Member) -> Message:
        residual = used(server.state.get(StateKey(RESIDUAL, member.architecture)))
        sent = {f"{RESIDUAL}.{key}": value for key, value in residual.items()}
        return Message({**averaged(server, member.architecture), **sent})

    @property
    def _scale(self) -> float:
        return self.scenario.adapter.alpha / self.scenario.adapter.r

    def _residual(
        self, adapters: Sequence[Adapter], mean: Adapter, weights: Tensor
    ) -> dict[str, Tensor]:
        """Return the factors of s Σ_i w_i B_i A_i − s B A, float64, of rank (n − 1) r.

        It is s Σ_i w_i (B_i − B)(A_i − A), whose last term follows from the others:
        w_n (B_n − B) = −Σ_{i<n} w_i (B_i − B).
        """
        last = {site: a for site, a, _ in pairs(adapters[-1])}
        found: dict[str, Tensor] = {}
        for modules in zip(*map(pairs, adapters[:-1]), strict=True):
            site = modules[0][0]
            a = torch.cat([own - last[site] for _, own, _ in modules])
            b = [
                self._scale * weight * (own - mean[f"{site}.B"])
                for weight, (_, _, own) in zip(weights[:-1], modules, strict=True)
            ]
            found |= {f"{site}.A": a, f"{site}.B": torch.cat(b, dim=1)}
        return found

    def _deviation(self, residual: Adapter, mean: Adapter) -> float:
        """Return ‖residual‖ / ‖Σ_i w_i s·B_i A_i‖ (Frobenius), over all modules."""
        lacking = whole = 0.0
        for (_, a, b), (_, a_mean, b_mean) in zip(pairs(residual), pairs(mean), strict=True):
            lacking += squared_norm(a, b)
            whole += squared_norm(torch.cat([a_mean, a]), torch.cat([self._scale * b_mean, b], 1))
        return float((lacking / whole) ** 0.5) if whole else 0.0

    def _add(self, server: Server, architecture: str, residual: Adapter) -> float:
        """Add a round's residual to the sum; return the share of the sum's ‖·‖² that was lost."""
        key, limit = StateKey(RESIDUAL, architecture), self._limit(architecture)
        before = {site: (a, b) for site, a, b in pairs(used(server.state.get(key)))}
        result: dict[str, Tensor] = {}
        total = lost = 0.0
        for site, a, b in pairs(residual):
            found = append([*([before[site]] if site in before else []), (a, b)], limit)
            total, lost = total + found.whole, lost + found.lost
            rank = min(limit, a.shape[1], b.shape[0])
            result |= resize({f"{site}.A": found.a, f"{site}.B": found.b}, rank)
        server.state.put(key, result)
        return lost / total if total else 0.0

    def _limit(self, architecture: str) -> int:
        """Return the highest rank that the sum of all residuals may have."""
        architecture_of = architectures(self.scenario.models_used)
        ranks = [
            self.scenario.rank_of(client.name)
            for client in self.scenario.clients
            # A client whose site has not named its model yet may turn out to be of this one.
            if architecture_of.get(client.model, architecture) == architecture
        ]
        needed = self.scenario.rounds * (sum(ranks) - min(ranks, default=0))
        return max(1, int(self.options.rank or needed))
