"""Run Experts: local training, and each input goes to the client whose prompts it resembles."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fedmosaic.adapters import read_state
from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.common.experts import OWN, WithExperts, expert_key
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.sft import SFT
from fedmosaic.algorithms.state import StateKey


class _PublishedSFT(SFT):
    """Train locally, and send the adapter to the server, which sends nothing back."""

    def upload(self, client: Client) -> Message:
        return Message(read_state(client.model, "local"))

    def take(self, server: Server, member: Member, update: Message) -> Message:
        if update.tensors:
            server.state.put(_adapters(member.architecture), update.tensors, member.name)
        return Message()


class Experts(WithExperts, _PublishedSFT):
    """Train alone, and answer each input with the adapter that was trained on its like.

    Training is that of :class:`SFT`. What is shared is described in
    :class:`~fedmosaic.algorithms.common.experts.WithExperts`. Where no prompt is near, the client's
    own model answers.

    - Up: the adapter, and prototypes of the training prompts.
    - Down, before an evaluation: adapters of peers of the same architecture, and their prototypes.

    Source: an extension, not in FedMosaic's paper. It is the baseline of ``fedmosaic-experts``.
    """

    name: ClassVar[str] = "experts"
    summary: ClassVar[str] = (
        "extension: local training; each input goes to the peer whose prompts it resembles"
    )
    paper: ClassVar[str] = "extension, in no paper"
    exchange: ClassVar[str] = "adapters between clients of one model, prototypes between all"
    mixed_ranks: ClassVar[bool] = False
    views: ClassVar[tuple[str, ...]] = (OWN,)

    def experts_of(self, server: Server, member: Member) -> dict[StateKey, dict[str, Tensor]]:
        adapter = server.state.get(_adapters(member.architecture), member.name)
        return {expert_key(member.architecture, member.architecture): adapter}


def _adapters(architecture: str) -> StateKey:
    return StateKey("adapter", architecture)
