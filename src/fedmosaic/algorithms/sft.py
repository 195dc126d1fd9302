"""SFT: every client trains alone. The baseline that a federation has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fedmosaic.algorithms.base import Algorithm, Client, Member, Server
from fedmosaic.algorithms.common.lora import build_lora, parameter_groups
from fedmosaic.algorithms.message import Message
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.optimiser import ParameterGroup


class SFT(Algorithm):
    """Supervised fine-tuning of a LoRA adapter on the client's own stream; nothing is sent, nothing received.

    Source: the local-only baseline of FedMosaic (arXiv 2506.11024, Table 1).
    """

    name: ClassVar[str] = "sft"
    summary: ClassVar[str] = "local training only: nothing travels"
    paper: ClassVar[str] = "LoRA, Hu et al. 2022 (arXiv 2106.09685)"
    mixed_ranks: ClassVar[bool] = True

    def build(self, backbone: Backbone, public: Sequence[Example]) -> Any:
        return build_lora(backbone, self.scenario.adapter, self.seed)

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        return parameter_groups(model, "local")

    def receive(self, client: Client, download: Message) -> None:
        pass

    def upload(self, client: Client) -> Message:
        return Message()

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        pass

    def download(self, server: Server, member: Member) -> Message:
        return Message()
