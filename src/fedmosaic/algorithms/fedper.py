"""Run FedPer: lower layers' adapters are averaged, those of the last layers stay personal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.adapters.keys import TensorKey
from fedmosaic.algorithms.base import Client
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.errors import ConfigError
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.optimiser import ParameterGroup


class FedPer(FedAvg):
    """Split the model by depth into base layers θ_B and the last K_P, the personal layers θ_P.

    Both train together,

        (θ_B, θ_P,i) ← steps on F_i,        θ_B ← Σ_i (n_i / Σ_j n_j) θ_B,i

    with the average over the clients of one architecture.

    - Up and down: θ_B.

    Source: Arivazhagan et al. 2019 (arXiv 1912.00818), Algorithms 1 and 2.

    Differences from the paper:

    - Layers are the decoder layers of the language model, and θ their LoRA's A and B. The head and
      everything else of the base model is frozen and the same for all clients.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "fedper"
    summary: ClassVar[str] = "FedAvg of the lower layers' adapters; the last layers' stay personal"
    paper: ClassVar[str] = "Arivazhagan et al. 2019 (arXiv 1912.00818)"

    class Options(FedAvg.Options):
        """Hold the settings of FedPer."""

        personal_layers: int = Field(default=1, ge=1)
        """K_P, the number of decoder layers, from the last, whose adapters stay at the client."""

    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        if self.options.personal_layers >= backbone.num_layers:
            raise ConfigError(
                f"algorithms.fedper.personal_layers = {self.options.personal_layers} leaves "
                f"nothing to share in {backbone.name}, which has {backbone.num_layers} layers; "
                "choose fewer"
            )
        return super().build(backbone, public, alignment)

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
        """Return those of the base layers."""
        layer = {key: TensorKey.parse(key).number for key in tensors}
        first_personal = max(layer.values()) + 1 - self.options.personal_layers
        return {key: value for key, value in tensors.items() if layer[key] < first_personal}
