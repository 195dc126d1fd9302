"""Run FedALT: an individual adapter, and a frozen one that is the average of the others'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from fedmosaic.adapters import adapter_parameters, read_state
from fedmosaic.adapters.mixer import add_token_mixers
from fedmosaic.algorithms.base import Client, FitReport, Member, Server
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.dual import Dual
from fedmosaic.algorithms.common.lora import build_lora, parameter_groups
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import ServerState, StateKey
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator
from fedmosaic.training.optimiser import ParameterGroup

# Weights that are computed at a time.
ENTRIES = 1 << 23


class FedALT(Dual):
    """Train an individual adapter beside the frozen average of the others', mixed at every token.

        h = W x + a(x) s B_i A_i x + (1 − a(x)) s B̄_i Ā_i x,   (a, 1 − a) = softmax(G_i x)
        Ā_i = 1/(N − 1) Σ_{j≠i} A_j,   B̄_i = 1/(N − 1) Σ_{j≠i} B_j

    with the average over the other clients of one architecture (rest of the world). The mixer G_i,
    [2, d_in] in each layer, and A_i, B_i are trained by one loss; what is received is frozen. A
    client goes on with its own adapter in every round: it is never overwritten.

    - Up: A_i and B_i. G_i stays.
    - Down: Ā_i and B̄_i.

    The view ``mixed`` is the formula. ``local`` and ``global`` are the individual adapter and the
    rest of the world alone, each with weight 1.

    Source: Bian et al. 2026 (AAAI; arXiv 2503.11880); formula, start and mixing by token were
    checked against the authors' code.

    Differences from the paper:

    - Clients may be absent: an average is over what each of the others sent last. The paper's
      clients all take part.
    - All clients of an architecture start from one A, and Adam's moments last from round to round.
      In the authors' code A is drawn for each client, and the moments start anew.
    - The two adapters drop different inputs; in the authors' code both see the same.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "fedalt"
    summary: ClassVar[str] = (
        "an individual adapter and the frozen average of the others', mixed at every token"
    )
    paper: ClassVar[str] = "Bian et al. 2026 (AAAI; arXiv 2503.11880)"
    views: ClassVar[tuple[str, ...]] = ("mixed", "local", "global")
    replaces_weights: ClassVar[bool] = False
    trims: ClassVar[bool] = False
    mixtures: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "mixed": {"local": 1.0, "global": 1.0},
        "local": {"local": 1.0},
        "global": {"global": 1.0},
    }

    # --- client half ------------------------------------------------------------------------------
    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        model = build_lora(backbone, self.scenario.adapter, self.seed, self.adapters)
        draw = generator(self.seed, "token mixer", backbone.identity)
        add_token_mixers(model, ("local", "global"), draw)
        self._activate(model)
        return model

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        return parameter_groups(model, "local")

    def train(self, client: Client) -> FitReport:
        self._activate(client.model)
        return client.fit(self.steps)

    def _activate(self, model: Any) -> None:
        """Mix both adapters, of which the received one is frozen."""
        activate(model, self.mixtures["mixed"], train=("local",))
        for parameter in adapter_parameters(model, "local").values():
            parameter.requires_grad_(True)  # the mixers, too, which PEFT does not know

    def upload(self, client: Client) -> Message:
        return Message(read_state(client.model, "local"))

    # --- server half ------------------------------------------------------------------------------
    def take(self, server: Server, member: Member, update: Message) -> Message:
        if update.tensors:
            server.state.put(_sent(member.architecture), update.tensors, member.name)
        return Message()

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        for member in server.members:
            if member.name in updates:
                self.take(server, member, updates[member.name])
        due = None if server.receivers is None else set(server.receivers)
        members: dict[str, list[str]] = {}
        for member in server.members:
            if due is None or member.name in due:
                members.setdefault(member.architecture, []).append(member.name)
        for architecture, receivers in members.items():
            average_others(server.state, architecture, receivers)

    def download(self, server: Server, member: Member) -> Message:
        return Message(server.state.get(_rest(member.architecture), member.name))


def average_others(state: ServerState, architecture: str, receivers: Sequence[str]) -> None:
    """Store for each receiver the mean of what the other clients of its architecture sent last.

    A receiver has none where no other client has sent anything.

    Args:
        state: has what clients sent, and gets the means in place of earlier ones.
        architecture: of the clients.
        receivers: names of the clients that may receive next.
    """
    source, target = _sent(architecture), _rest(architecture)
    senders = sorted(state.clients(source))
    receivers = [name for name in receivers if set(senders) - {name}]
    if not receivers:
        return
    rows = state.new_rows(target, source, len(receivers))
    values, step = state.values(source), max(1, ENTRIES // len(senders))
    for first in range(0, len(receivers), step):
        part = receivers[first : first + step]
        weights = torch.tensor([[float(s != r) for s in senders] for r in part])
        weights = weights / weights.sum(1, keepdim=True)
        width = max(1, state.storage.block // (4 * (len(senders) + len(part))))
        for start in range(0, values, width):
            stop = min(start + width, values)
            rows.write(part, start, weights @ state.read(source, senders, start, stop))


def _sent(architecture: str) -> StateKey:
    """Return the key of the individual adapters."""
    return StateKey("individual", architecture)


def _rest(architecture: str) -> StateKey:
    """Return the key of the averages of the others."""
    return StateKey("rest of the world", architecture)
