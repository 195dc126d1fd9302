"""Run FLoRA: a round's adapters are stacked into a frozen sum, and clients begin anew on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.common.frozen_sum import (
    activate_frozen,
    add_frozen,
    append,
    used,
    write_frozen,
)
from fedmosaic.algorithms.common.ranks import (
    Adapter,
    RankedLora,
    combined_key,
    first_rows,
    is_a,
    pairs,
    resize,
)
from fedmosaic.algorithms.message import Message
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.models.architectures import architectures
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import seed_for


class FLoRA(RankedLora):
    """Stack the adapters of an architecture's clients, which adds up their products exactly.

        A = [w_1 A_1; …; w_n A_n],   B = [s B_1, …, s B_n],   B A = Σ_i w_i s·B_i A_i
        W ← W + B A,   w_i = n_i / Σ_j n_j

    and clients go on with a fresh adapter (A drawn anew, B = 0).

    - Up: A_i and B_i.
    - Down: everything merged so far, as one pair A, B.

    Source: Wang et al., NeurIPS 2024 (arXiv 2409.05976), section 3.

    Differences from the paper:

    - W, which clients share in memory, stays as it is. What has been merged is a frozen adapter
      ``global`` of scale 1 next to the trained one: the same function.
    - That adapter's rank is at most ``rank``; by default rounds × Σ_i r_i or the width of the
      weight, which holds every sum exactly. Where a stack outgrows a smaller ``rank``, it is cut to
      the best approximation (an SVD, as in FlexLoRA), and the lost share of ‖B A‖² is reported.
    - The whole sum travels down, so that a client may miss rounds. The paper's clients miss none
      and get the last stack.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "flora"
    summary: ClassVar[str] = (
        "LoRA of any ranks: adapters stacked without error into a frozen one, then begun anew"
    )
    paper: ClassVar[str] = "FLoRA, NeurIPS 2024 (arXiv 2409.05976)"
    adapters: ClassVar[tuple[str, ...]] = ("local", "global")
    views: ClassVar[tuple[str, ...]] = ("mixed", "global")
    downloads_grow: ClassVar[bool] = True

    class Options(RankedLora.Options):
        """Hold the settings of FLoRA."""

        rank: int | None = Field(default=None, ge=1)
        """Rank of the adapter of all that has been merged; None: as needed to hold it exactly."""

    # --- client half ------------------------------------------------------------------------------
    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        model = super().build(backbone, public, alignment)
        add_frozen(model, backbone, self.scenario.adapter, "global", self._limit(backbone.name))
        return model.eval()

    def receive(self, client: Client, download: Message) -> None:
        if not download.tensors:
            return
        write_frozen(client.model, "global", download.tensors)
        # Names the draw; published runs depend on it.
        seed = seed_for(self.seed, client.name, client.round, "fresh adapter")
        fresh = {
            key: first_rows(*value.shape, seed, key) if is_a(key) else torch.zeros_like(value)
            for key, value in read_state(client.model, "local").items()
        }
        write_state(client.model, "local", fresh)

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        names = ("local", "global") if name == "mixed" else (name,)
        activate_frozen(client.model, "global", *names)
        try:
            yield client.model
        finally:
            activate_frozen(client.model, "global", "local", "global")

    # --- server half ------------------------------------------------------------------------------
    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        self._lost: dict[str, float] = {}
        super().aggregate(server, updates)
        server.record("lost", self._lost)

    def combine(
        self,
        server: Server,
        architecture: str,
        adapters: Sequence[Adapter],
        weights: Tensor,
        ranks: Sequence[int],
    ) -> Mapping[int, Adapter]:
        limit = self._limit(architecture)
        scale = self.scenario.adapter.alpha / self.scenario.adapter.r
        merged = used(server.state.get(combined_key(architecture, limit)))
        before = {site: (a, b) for site, a, b in pairs(merged)}
        result: dict[str, Tensor] = {}
        total = lost = 0.0
        for modules in zip(*map(pairs, adapters), strict=True):
            site = modules[0][0]
            parts = [before[site]] if site in before else []
            for weight, (_, a, b) in zip(weights, modules, strict=True):
                parts.append((weight * a, scale * b))
            found = append(parts, limit)
            total, lost = total + found.whole, lost + found.lost
            rank = min(limit, found.a.shape[1], found.b.shape[0])
            result |= resize({f"{site}.A": found.a, f"{site}.B": found.b}, rank)
        self._lost[architecture] = lost / total if total else 0.0
        return {limit: result}

    def download(self, server: Server, member: Member) -> Message:
        key = combined_key(member.architecture, self._limit(member.architecture))
        return Message(used(server.state.get(key)))

    def _limit(self, architecture: str) -> int:
        """Return the highest rank that what has been merged may have."""
        architecture_of = architectures(self.scenario.models_used)
        clients = [
            client.name
            for client in self.scenario.clients
            if architecture_of[client.model] == architecture
        ]
        needed = self.scenario.rounds * sum(self.scenario.rank_of(name) for name in clients)
        return int(self.options.rank or needed)
