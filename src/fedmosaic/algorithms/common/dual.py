"""Provide the base of algorithms whose clients have an averaged and a personal adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Client
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.lora import build_lora, parameter_groups
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.optimiser import ParameterGroup


class Dual(FedAvg):
    """Train two LoRA adapters: ``global`` is averaged, ``local`` never leaves the client.

    ``global`` is uploaded and averaged within the architecture. Where an algorithm lists a third
    adapter, ``received``, it keeps what the server sent while ``global`` trains on from there; it
    is frozen. Personal adapters are neither averaged nor overwritten, and their moments last from
    round to round.

    Class attributes:
        mixtures: for each view the factor of each adapter that is active in it (:func:`activate`).
        one_loss: whether one loss trains both adapters. Otherwise each has its own, and gradients
            are clipped separately.
    """

    adapters: ClassVar[tuple[str, ...]] = ("local", "global")
    views: ClassVar[tuple[str, ...]] = ("mixed", "global")
    mixtures: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "mixed": {"local": 1.0},
        "global": {"global": 1.0},
    }
    one_loss: ClassVar[bool] = False

    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        model = build_lora(backbone, self.scenario.adapter, self.seed, self.adapters)
        if "received" in self.adapters:
            write_state(model, "received", read_state(model, "global"))
        activate(model, self.mixtures["mixed"])
        return model

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        objective = "" if self.one_loss else "personal"
        personal = parameter_groups(model, "local", personal=True, objective=objective)
        return [*parameter_groups(model, "global"), *personal]

    def receive(self, client: Client, download: Message) -> None:
        if download.tensors:
            for name in {"global", "received"} & set(self.adapters):
                write_state(client.model, name, download.tensors)

    def start_from_received(self, client: Client) -> None:
        write_state(client.model, "local", read_state(client.model, "global"))

    def upload(self, client: Client) -> Message:
        return Message(read_state(client.model, "global"))

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        activate(client.model, self.mixtures[name])
        try:
            yield client.model
        finally:
            activate(client.model, self.mixtures["mixed"])
