"""FedAvg of LoRA adapters (FedIT), among the clients of each architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.sft import SFT


class FedAvg(SFT):
    """A and B of every layer averaged over the round's clients of one architecture, weighted by their samples:

        θ ← Σ_i (n_i / Σ_j n_j) θ_i

    Clients of different architectures share nothing; one alone in its architecture trains alone. The average is what the next
    round's first step starts from, and Adam's moments start anew with it.

    Source: McMahan et al. 2017 (arXiv 1602.05629), Algorithm 1; with LoRA: FedIT, Zhang et al. 2024 (arXiv 2305.05644).
    """

    name: ClassVar[str] = "fedavg"
    summary: ClassVar[str] = "LoRA weights averaged within each architecture (FedIT)"
    paper: ClassVar[str] = "McMahan et al. 2017 (arXiv 1602.05629); FedIT (arXiv 2305.05644)"
    replaces_weights: ClassVar[bool] = True
    mixed_ranks: ClassVar[bool] = False

    def receive(self, client: Client, download: Message) -> None:
        if download.tensors:
            write_state(client.model, "local", download.tensors)

    def upload(self, client: Client) -> Message:
        return Message(read_state(client.model, "local"))

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        for architecture in dict.fromkeys(member.architecture for member in server.members):
            group = [m for m in server.members if m.architecture == architecture and m.name in updates]
            if not group:
                continue
            kind = f"local@{architecture}"
            for member in group:
                server.ledger.put(kind, member.name, updates[member.name].tensors)
            names = server.ledger.clients(kind)
            weights = torch.tensor([float(m.samples) for m in server.members if m.name in updates and m.name in names])
            rows = server.ledger.matrix(kind)[[names.index(member.name) for member in group]]
            mean = (weights / weights.sum()) @ rows
            server.ledger.put_matrix(f"mean@{architecture}", kind, [architecture], mean[None])

    def download(self, server: Server, member: Member) -> Message:
        return Message(server.ledger.get(f"mean@{member.architecture}", member.architecture))
