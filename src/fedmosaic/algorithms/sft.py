"""Run SFT: every client trains alone. It is the baseline that a federation has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fedmosaic.algorithms.base import Algorithm, Client, Member, Server
from fedmosaic.algorithms.common.lora import build_lora, parameter_groups
from fedmosaic.algorithms.message import Message
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.optimiser import ParameterGroup


class SFT(Algorithm):
    """Fine-tune a LoRA adapter on the client's own stream.

        h = W x + s B A x

    - Up and down: nothing.

    Source: LoRA, Hu et al. 2022 (arXiv 2106.09685); the local-only baseline of FedMosaic (arXiv
    2506.11024, Table 1).

    Differences from the paper:

    - LoRA is on all seven projections of each decoder layer by default, not on attention alone.
    """

    name: ClassVar[str] = "sft"
    summary: ClassVar[str] = "local training only: nothing travels"
    paper: ClassVar[str] = "LoRA, Hu et al. 2022 (arXiv 2106.09685)"
    exchange: ClassVar[str] = "nothing"
    mixed_ranks: ClassVar[bool] = True

    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
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
