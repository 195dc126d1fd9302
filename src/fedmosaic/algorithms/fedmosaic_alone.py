"""FedMosaic's two branches without a federation: what a model gains from them and from the gate alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Client, FitReport, Member, Server
from fedmosaic.algorithms.fedmosaic import FedMosaic
from fedmosaic.algorithms.message import Message


class FedMosaicAlone(FedMosaic):
    """As :class:`FedMosaic` with nobody to learn from: nothing is sent or received, no signature is computed, and the global branch
    is what the client's own local one was at the end of its round before:

        G_i ← L_i

    It is what a client alone in a federation of FedMosaic does. ``pull``, ``share`` and their kin have no meaning here.

    Source: a control, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-alone"
    summary: ClassVar[str] = "control: FedMosaic's two branches and gate without communication"

    def receive(self, client: Client, download: Message) -> None:
        write_state(client.model, "global", read_state(client.model, "local"))

    def train(self, client: Client) -> FitReport:
        return client.fit(self.steps)

    def upload(self, client: Client) -> Message:
        return Message()

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        pass

    def download(self, server: Server, member: Member) -> Message:
        return Message()
