"""FedPer: the adapters of the lower layers are averaged, those of the last layers stay each client's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.algorithms.base import Client
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.data.example import Example
from fedmosaic.errors import ConfigError
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.optimiser import ParameterGroup


class FedPer(FedAvg):
    """The model is split by depth into base layers θ_B and personalisation layers θ_P, the last K_P. Both train together,

        (θ_B, θ_P,i) ← steps on F_i,        θ_B ← Σ_i (n_i / Σ_j n_j) θ_B,i

    with the average over the clients of one architecture; only θ_B travels. Here the layers are the decoder layers of the language
    model, and θ their LoRA's A and B; the head and everything else of the base model is frozen and common anyway.

    Source: Arivazhagan et al. 2019 (arXiv 1912.00818), Algorithms 1 and 2.
    """

    name: ClassVar[str] = "fedper"
    summary: ClassVar[str] = "FedAvg of the lower layers' adapters; the last layers' stay personal"
    paper: ClassVar[str] = "Arivazhagan et al. 2019 (arXiv 1912.00818)"

    class Options(FedAvg.Options):
        """``personal_layers``: K_P, number of decoder layers, counted from the last, whose adapters never leave the client."""

        personal_layers: int = Field(default=1, ge=1)

    def build(self, backbone: Backbone, public: Sequence[Example]) -> Any:
        if self.options.personal_layers >= backbone.num_layers:
            raise ConfigError(
                f"algorithms.fedper.personal_layers = {self.options.personal_layers} leaves nothing to share in {backbone.name}, "
                f"which has {backbone.num_layers} layers"
            )
        return super().build(backbone, public)

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        trained = adapter_parameters(model, "local")
        base = self._base(trained)
        personal = {key: parameter for key, parameter in trained.items() if key not in base}
        return [ParameterGroup("lora", base), ParameterGroup("lora", personal, personal=True)]

    def receive(self, client: Client, download: Message) -> None:
        write_state(client.model, "local", download.tensors, partial=True)

    def upload(self, client: Client) -> Message:
        return Message(self._base(read_state(client.model, "local")))

    def _base(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the base layers; keys are ``layer.<index>.…``."""
        depth = {key: int(key.split(".")[1]) for key in tensors}
        first = max(depth.values()) + 1 - self.options.personal_layers
        return {key: value for key, value in tensors.items() if depth[key] < first}
