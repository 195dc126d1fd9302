"""Run FedAvg of LoRA adapters (FedIT) among the clients of each architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import WITHIN_MODELS, Client, Member, Server
from fedmosaic.algorithms.common.average import average, averaged
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.sft import SFT


class FedAvg(SFT):
    """Average A and B of every layer over the round's clients of one architecture.

        θ ← Σ_i (n_i / Σ_j n_j) θ_i

    n_i is client i's number of training samples. The next round's first step starts from the
    average, and Adam's moments start anew with it.

    - Up: A and B of every layer.
    - Down: the average of the client's architecture.

    Source: McMahan et al. 2017 (arXiv 1602.05629), Algorithm 1; with LoRA: FedIT, Zhang et al. 2024
    (arXiv 2305.05644).

    Differences from the paper:

    - Clients of different architectures share nothing; one alone in its architecture trains alone.
    """

    name: ClassVar[str] = "fedavg"
    summary: ClassVar[str] = "LoRA weights averaged within each architecture (FedIT)"
    paper: ClassVar[str] = "McMahan et al. 2017 (arXiv 1602.05629); FedIT (arXiv 2305.05644)"
    exchange: ClassVar[str] = WITHIN_MODELS
    replaces_weights: ClassVar[bool] = True
    mixed_ranks: ClassVar[bool] = False
    trims: ClassVar[bool] = True

    def receive(self, client: Client, download: Message) -> None:
        if download.tensors:
            write_state(client.model, "local", download.tensors)

    def upload(self, client: Client) -> Message:
        return Message(read_state(client.model, "local"))

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        average(server, updates, trim=self.scenario.defences.trim)

    def download(self, server: Server, member: Member) -> Message:
        return Message(averaged(server, member.architecture))
