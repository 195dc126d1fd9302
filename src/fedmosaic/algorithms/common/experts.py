"""Let clients give each input to the peer whose training prompts it resembles."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import RECEIVED, Algorithm, Client, Member, Server
from fedmosaic.algorithms.common.expert_bank import (
    ExpertBank,
    exchanged,
    means_of_clients,
    nearest_experts,
    split,
)
from fedmosaic.algorithms.common.expert_offers import (
    FOR_OTHERS,
    OFFERED,
    PARTS,
    PUBLISHED,
    offers_of,
)
from fedmosaic.algorithms.common.publish import published
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.relevance.familiarity import Familiarity, Standardised
from fedmosaic.relevance.prototypes import nearest_owner, prototypes, useful_owners
from fedmosaic.relevance.routes import Router

OWN = "own"
"""View: the client's own model for every input."""
EXPERT = "expert "
"""Beginning of the views that are experts, before the expert's name."""
RANDOM, PERMUTED, NEAREST_CLIENT = "experts-random", "experts-permuted", "experts-client"
LATEST = StateKey("latest prototypes")
CANDIDATES = 256
"""Most peers among whom a client's experts are chosen; of more, so many are drawn."""


class WithExperts(Algorithm):
    """Add experts to an algorithm whose first view is its trained model.

    With its update a client publishes k prototypes of its training prompts
    (:func:`~fedmosaic.algorithms.common.publish.published`). Before an evaluation the server
    sends each client the adapters of the most useful peers with their prototypes
    (:func:`~fedmosaic.relevance.prototypes.useful_owners`). The client gives each input to its own
    model, to the expert with the nearest prototype, or where nothing is near to what it received
    (:class:`~fedmosaic.relevance.routes.Router`).

    Training is that of the algorithm. The view ``mixed``, the model that the client uses, is now
    the choice among all; ``own`` is the client's model for every input. Controls:
    ``experts-random``, a random expert for the inputs that go to one; ``experts-permuted``, the
    prototypes of each client given to another; ``experts-client``, one prototype a client.
    """

    views: ClassVar[tuple[str, ...]] = (OWN,)
    publishes_prototypes: ClassVar[bool] = True
    downloads_grow: ClassVar[bool] = True  # by experts, before an evaluation

    class Options(Algorithm.Options):
        """Hold the settings of the experts."""

        prototypes: int = Field(default=16, ge=1)
        """k, prototypes that a client publishes."""

        experts: int | None = Field(default=None, ge=1)
        """Most experts that a client gets. None: all."""

        megabytes: float | None = Field(default=None, gt=0)
        """Most megabytes of experts in a download. None: no limit."""

        reach: float = Field(default=1.5, gt=0)
        """Factor on the distance within which a prototype is near."""

    # --- client half --------------------------------------------------------------------------
    def upload(self, client: Client) -> Message:
        update = super().upload(client)  # type: ignore[safe-super]  # the algorithm's
        k, std = self.options.prototypes, self.scenario.routing.noise_std
        sent = published(client, k, std, new=self.may_publish(client.round))
        return Message({**update.tensors, PUBLISHED: sent}, update.scalars)

    def may_publish(self, number: int) -> bool:
        scenario = self.scenario
        every_client = scenario.participants == len(scenario.clients)
        # Where some are not asked in the round before an evaluation, the latest they sent counts.
        needed = number + 1 < scenario.rounds and self._due(number + 1)
        return needed or not every_client

    def receive(self, client: Client, download: Message) -> None:
        experts, others = split(download.tensors)
        super().receive(client, Message(others, download.scalars))  # type: ignore[safe-super]
        if experts:
            client.state = {**split(client.state)[1], **experts}

    def start_from_received(self, client: Client) -> None:
        """Start from the expert to which most of the new prompts are nearest.

        Of an expert of another architecture there are P and Q; the change of other layers is zero.
        """
        bank, prompts = ExpertBank(client.state), client.prompt_features()
        if not (bank.names and len(prompts)):
            super().start_from_received(client)
            return
        scale = Standardised.of(prompts)
        owned = {name: scale(found) for name, found in bank.prototypes().items()}
        names, _ = nearest_owner(scale(prompts), owned)
        nearest = max(owned, key=names.count)
        own = read_state(client.model, "local")
        if not bank.same_model(nearest):
            own = {k: torch.zeros_like(v) if k.endswith(".B") else v for k, v in own.items()}
        write_state(client.model, "local", {**own, **bank.adapter(nearest)})

    @classmethod
    def routed_views(cls) -> tuple[str, ...]:
        return ("mixed", *super().routed_views(), RANDOM, PERMUTED, NEAREST_CLIENT)

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        if not name.startswith(EXPERT):
            with super().view(client, "mixed" if name == OWN else name) as model:
                yield model
            return
        expert = name.removeprefix(EXPERT)
        tensors = ExpertBank(client.state).adapter(expert)
        own = read_state(client.model, "local")
        blank = {key: torch.zeros_like(value) for key, value in own.items()}
        write_state(client.model, "local", {**blank, **tensors})
        try:
            view = self.expert_view if ExpertBank(client.state).same_model(expert) else "local"
            with super().view(client, view) as model:
                yield model
        finally:
            write_state(client.model, "local", own)

    def compares_with_base(self, client: Client, view: str) -> bool:
        if not view.startswith(EXPERT):
            return False
        return not ExpertBank(client.state).same_model(view.removeprefix(EXPERT))

    def router(self, client: Client, view: str) -> Router:
        if view in super().routed_views():
            return super().router(client, view)
        settings, features = self.scenario.routing, client.prompt_features()
        own = Familiarity.of(features, settings.quantile, settings.prompts)
        centres = prototypes(features, self.options.prototypes, client.generator("prototypes"))
        experts = self._experts(client, view)
        found = Router.of(own, centres, experts, settings.quantile, self.options.reach)
        if view == "mixed" and experts:
            self._warn_of_noise(client, found)
        return found

    def _warn_of_noise(self, client: Client, router: Router) -> None:
        """Warn where noise alone moves prototypes farther than what counts as near."""
        std = self.scenario.routing.noise_std
        moved = router.displacement(std * math.sqrt(self.options.prototypes))
        if moved > router.radius:
            warnings.warn(
                f"client {client.name!r}: hardly any input can go to an expert: the noise on "
                f"prototypes (routing.noise_std={std:g}) moves them by {moved:.1f} in the scale of "
                f"the client's features, and near is up to {router.radius:.1f}; lower the noise or "
                f"raise algorithms.{self.name}.reach",
                stacklevel=2,
            )

    def routes(self, client: Client, view: str, prompts: Tensor) -> list[str]:
        if view in super().routed_views():
            return super().routes(client, view, prompts)
        router = self.router(client, view)
        chosen, names = router(prompts), list(router.experts)
        if view == RANDOM and names:
            draw = client.generator("random experts")
            places = torch.randint(len(names), (len(chosen),), generator=draw)
            chosen = [name and names[place] for name, place in zip(chosen, places, strict=True)]
        elif view == NEAREST_CLIENT:
            scale = router.own.scale
            every = {n: scale(rows) for n, rows in ExpertBank(client.state).prototypes().items()}
            chosen = nearest_experts(scale(prompts), every, chosen)
        return [self.nobody if name is None else EXPERT + name if name else OWN for name in chosen]

    @property
    def nobody(self) -> str:
        """Return the view that answers where no prototype is near."""
        return RECEIVED if RECEIVED in self.views else OWN

    def _experts(self, client: Client, view: str) -> Mapping[str, Tensor]:
        """Return the prototypes of each expert, as a view sees them."""
        found = ExpertBank(client.state).prototypes()
        if view == PERMUTED:
            return exchanged(found)
        return means_of_clients(found) if view == NEAREST_CLIENT else found

    # --- server half --------------------------------------------------------------------------
    def take(self, server: Server, member: Member, update: Message) -> Message:
        if update.tensors:
            sent = {k: v for k, v in update.tensors.items() if k in (PUBLISHED, PARTS)}
            if bool(sent[PUBLISHED].any()):  # zeros stand for no prompts
                server.state.put(LATEST, sent, member.name)
            others = {k: v for k, v in update.tensors.items() if k not in sent}
            update = Message(others, update.scalars)
        return super().take(server, member, update)

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        super().aggregate(server, updates)  # type: ignore[safe-super]
        if not self._due(server.round + 1):
            return
        # A copy, because updates of the next round come while its downloads are still being made.
        state, members = server.state, {member.name: member for member in server.members}
        for name in state.clients(LATEST):
            state.put(OFFERED, state.get(LATEST, name), name)
            for key, tensors in self.experts_of(server, members[name]).items():
                state.put(key, tensors, name)

    def download(self, server: Server, member: Member) -> Message:
        update = super().download(server, member)  # type: ignore[safe-super]
        if not self._due(server.round):
            return update
        return Message({**update.tensors, **self._bank(server, member)}, update.scalars)

    def _due(self, round_number: int) -> bool:
        """Return whether clients are evaluated in a round, or new tasks are learned after it."""
        every, last = self.scenario.evaluation.every, self.scenario.rounds - 1
        return round_number >= last or (every > 0 and (round_number + 1) % every == 0)

    def _bank(self, server: Server, member: Member) -> dict[str, Tensor]:
        """Return the experts of a client: adapters of its most useful peers, with prototypes."""
        state, options = server.state, self.options
        sources = {
            other.name: key
            for other in server.members
            if (key := expert_key(other.architecture, member.architecture)) in state.known_keys()
            and other.name in state.clients(key)
            and other.name != member.name
        }
        if len(sources) > CANDIDATES:
            draw = server.generator(f"candidates of {member.name}")
            places = torch.randperm(len(sources), generator=draw)[:CANDIDATES].sort().values
            names = list(sources)
            sources = {names[place]: sources[names[place]] for place in places.tolist()}
        own = torch.zeros(0)
        if member.name in state.clients(OFFERED):
            own = state.get(OFFERED, member.name)[PUBLISHED]
        offers = offers_of(state, sources, self.parts_for_others)
        budget = None if options.megabytes is None else int(options.megabytes * 1e6)
        chosen = useful_owners(
            own,
            {name: offer.prototypes for name, offer in offers.items()},
            {name: offer.size for name, offer in offers.items()},
            most=options.experts,
            budget=budget,
        )
        bank: dict[str, Tensor] = {}
        for name in chosen:
            bank |= offers[name].packed(state, name)
        return bank

    # --- what an algorithm with experts says --------------------------------------------------
    expert_view: ClassVar[str] = "mixed"
    """View of the algorithm as which an expert in the adapter ``local`` answers."""
    parts_for_others: int = 1
    """Number of parts that stand under ``FOR_OTHERS``."""

    @abstractmethod
    def experts_of(self, server: Server, member: Member) -> dict[StateKey, dict[str, Tensor]]:
        """Return what a client sent last, as an expert of others.

        Args:
            server: its state has the adapter.
            member: the client.

        Returns:
            under :func:`expert_key` of its architecture the whole adapter; under ``FOR_OTHERS`` P
            and Q for other architectures, where they get any, as ``{part}/{name}``.
        """


def expert_key(giver: str, receiver: str) -> StateKey:
    """Return where experts stand in the server's state, by architecture of giver and receiver."""
    return StateKey("expert", giver) if giver == receiver else FOR_OTHERS
