"""FLoRA: the adapters of a round stacked, which adds up what they do without any error, and begun anew on top of the sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import activate, adapter_parameters, read_state, write_state
from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.common.lora import target_pattern
from fedmosaic.algorithms.common.ranks import (
    Adapter,
    RankedLora,
    factors,
    first_rows,
    pairs,
    resize,
    squared_norm,
)
from fedmosaic.algorithms.message import Message
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import seed_for


class FLoRA(RankedLora):
    """Stacking, among the clients of one architecture:

        A = [w_1 A_1; …; w_n A_n],   B = [s B_1, …, s B_n],   B A = Σ_i w_i s·B_i A_i,   w_i = n_i / Σ_j n_j
        W ← W + B A

    The paper merges B A into W and goes on with a fresh adapter (A drawn anew, B = 0) each round. Here W, which clients share in
    memory, stays as it is, and what has been merged is kept as a frozen adapter ``global`` with scale 1 beside the trained one:
    the same function. Its rank is at most ``rank``; by default rounds × Σ_i r_i or the width of the weight, which holds
    every sum exactly. Where a stack outgrows a smaller ``rank``, it is cut down to the best approximation (an SVD, as in FlexLoRA)
    and the share of ‖B A‖² that is lost is reported. The whole sum travels down, so that a client may miss rounds; the paper's clients,
    who miss none, get the last stack.

    Source: Wang et al., NeurIPS 2024 (arXiv 2409.05976), section 3.
    """

    name: ClassVar[str] = "flora"
    summary: ClassVar[str] = (
        "LoRA of any ranks: adapters stacked without error into a frozen one, then begun anew"
    )
    paper: ClassVar[str] = "FLoRA, NeurIPS 2024 (arXiv 2409.05976)"
    adapters: ClassVar[tuple[str, ...]] = ("local", "global")
    views: ClassVar[tuple[str, ...]] = ("mixed", "global")

    class Options(RankedLora.Options):
        """``rank``: of the adapter that holds what has been merged; None: as much as is needed to hold it exactly."""

        rank: int | None = Field(default=None, ge=1)

    # --- client half ------------------------------------------------------------------------------------------------
    def build(self, backbone: Backbone, public: Sequence[Example]) -> Any:
        from peft import LoraConfig

        model = super().build(backbone, public)
        # No projection of a decoder layer has a higher rank than the model's width.
        rank = min(self._limit(backbone.name), backbone.hidden_size)
        targets = target_pattern(backbone, self.scenario.adapter)
        model.add_adapter(
            "global", LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, bias="none")
        )
        write_state(
            model,
            "global",
            {key: torch.zeros_like(v) for key, v in read_state(model, "global").items()},
        )
        _switch(model, "local", "global")
        return model.eval()

    def receive(self, client: Client, download: Message) -> None:
        if not download.tensors:
            return
        held = read_state(client.model, "global")
        rank = next(value.shape[0] for key, value in held.items() if key.endswith(".A"))
        write_state(client.model, "global", resize(download.tensors, rank))
        fresh = seed_for(self.seed, client.name, client.round, "fresh adapter")
        local = read_state(client.model, "local")
        start = {
            k: first_rows(*v.shape, fresh, k) if k.endswith(".A") else torch.zeros_like(v)
            for k, v in local.items()
        }
        write_state(client.model, "local", start)

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        _switch(client.model, *(("local", "global") if name == "mixed" else (name,)))
        try:
            yield client.model
        finally:
            _switch(client.model, "local", "global")

    # --- server half ------------------------------------------------------------------------------------------------
    def combine(
        self,
        server: Server,
        architecture: str,
        adapters: Sequence[Adapter],
        weights: Tensor,
        ranks: Sequence[int],
    ) -> Mapping[int, Adapter]:
        limit, scale = (
            self._limit(architecture),
            self.scenario.adapter.alpha / self.scenario.adapter.r,
        )
        merged = server.state.get(f"rank {limit}@{architecture}", architecture)
        before = {module: (a, b) for module, a, b in pairs(_used(merged))}
        result: dict[str, Tensor] = {}
        total = lost = 0.0
        for modules in zip(*map(pairs, adapters), strict=True):
            name, a, b = modules[0]
            held = [before[name]] if name in before else []
            stacked = [
                (weight * a, scale * b) for weight, (_, a, b) in zip(weights, modules, strict=True)
            ]
            a, b = (
                torch.cat([a for a, _ in held + stacked]),
                torch.cat([b for _, b in held + stacked], dim=1),
            )
            rank = min(limit, a.shape[1], b.shape[0])
            whole = squared_norm(a, b)
            if a.shape[0] > rank:
                a, b = factors(a, b, rank)
            total, lost = total + whole, lost + whole - squared_norm(a, b)
            result |= resize({f"{name}.A": a, f"{name}.B": b}, rank)
        server.report.setdefault("lost", {})[architecture] = lost / total if total else 0.0
        return {limit: result}

    def download(self, server: Server, member: Member) -> Message:
        kind = f"rank {self._limit(member.architecture)}@{member.architecture}"
        return Message(_used(server.state.get(kind, member.architecture)))

    def _limit(self, architecture: str) -> int:
        """The most rank that what has been merged may have."""
        clients = [client.name for client in self.scenario.clients if client.model == architecture]
        needed = self.scenario.rounds * sum(self.scenario.rank_of(name) for name in clients)
        return int(self.options.rank or needed)


def _used(adapter: Adapter) -> dict[str, Tensor]:
    """The adapter without the last columns of each B that are zero, and their rows of A."""
    result: dict[str, Tensor] = {}
    for module in [key.removesuffix(".B") for key in adapter if key.endswith(".B")]:
        a, b = adapter[f"{module}.A"], adapter[f"{module}.B"]
        filled = b.any(dim=0).nonzero()
        rank = int(filled[-1]) + 1 if len(filled) else 0
        result |= {f"{module}.A": a[:rank], f"{module}.B": b[:, :rank]}
    return result


def _switch(model: Any, *names: str) -> None:
    """Make these adapters active. PEFT lets active adapters train; what has been merged must not."""
    activate(model, *names)
    for parameter in adapter_parameters(model, "global").values():
        parameter.requires_grad_(False)
