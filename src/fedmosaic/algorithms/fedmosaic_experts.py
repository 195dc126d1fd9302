"""Run FedMosaic with experts: each input goes to the client whose prompts it resembles."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.common.expert_offers import FOR_OTHERS, PARTS, PUBLISHED
from fedmosaic.algorithms.common.experts import OWN, WithExperts, expert_key
from fedmosaic.algorithms.common.moved import learn_moved
from fedmosaic.algorithms.fedmosaic import BLOCKS, PAIR
from fedmosaic.algorithms.fedmosaic_variants import Additive
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.config import Scenario


class FedMosaicExperts(WithExperts, Additive):
    """Add to :class:`Additive` that each input can go to a peer's adapter.

    Training is that of :class:`Additive`, and so are P, Q, A, B and signatures that travel. Without
    refined alignment a client receives P and Q of its own architecture alone. What is
    added is described in :class:`~fedmosaic.algorithms.common.experts.WithExperts`. A peer's
    adapter takes the place of the client's local one, with the client's gate and what it received
    in the global branch. Where no prompt is near, the global branch answers.

    A peer of another architecture gives P and Q alone. They stand by themselves in the client's
    base model, and options are chosen by what they change in its scores
    (:mod:`fedmosaic.evaluation.difference`). With ``across: moved`` they are not the trained ones
    but learned for this purpose, in closed form (:mod:`fedmosaic.alignment.transfer`). The peer's
    prompts are then divided into parts, each of which has a P and Q of its own and is an expert.

    - Up: as FedMosaic, prototypes of the training prompts, and with ``across: moved`` P and Q for
      others.
    - Down: as FedMosaic; before an evaluation also adapters of peers, and their prototypes.

    Source: an extension, not in FedMosaic's paper.
    """

    name: ClassVar[str] = "fedmosaic-experts"
    summary: ClassVar[str] = (
        "extension: fedmosaic-additive; each input goes to the peer whose prompts it resembles"
    )
    views: ClassVar[tuple[str, ...]] = (OWN, *PAIR)
    options_of: ClassVar[str | None] = "fedmosaic"

    class Options(WithExperts.Options, Additive.Options):
        """Hold the settings of the experts and of the sum."""

        cross_architecture_weight: float | None = Field(default=None, ge=0)
        """c, the weight of the other architectures' P and Q in what a client receives.

        None: 2 where alignment is refined (``alignment.refine``), else 0, because P and Q then mean
        little in other models.
        """

        across: Literal["auto", "moved", "trained", "none"] = "auto"
        """P and Q that clients of other architectures get of an expert.

        ``moved``: P and Q that are learned for it. ``trained``: those of the local adapter.
        ``none``: nothing. ``auto``: ``moved`` where alignment is refined (``alignment.refine``),
        else ``none``, because P and Q then mean little elsewhere.
        """

        moved_examples: int = Field(default=128, ge=1)
        """Most training examples that ``moved`` learns from, each by one backward pass in a run.

        Each takes 2 bytes for each value of P and Q: 67 kB for 8 sites of rank 64.
        """

        moved_parts: int = Field(default=4, ge=1)
        """Most parts into which ``moved`` divides a client's prompts; each has a P and Q.

        One P for several tasks is worse at each of them. Up and down they take 4 bytes for each
        value of P and Q and part: 133 kB for 8 sites of rank 64.
        """

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
        super().__init__(options, scenario, seed)
        self.across = options.across if self.several_architectures else "none"
        if self.across == "auto":
            self.across = "none" if scenario.alignment.refine is None else "moved"
        self.parts_for_others = options.moved_parts if self.across == "moved" else 1

    def notes(self) -> list[str]:
        found = super().notes()
        if self.options.across == "auto" and self.across == "none" and self.several_architectures:
            what = "clients get no experts of other architectures"
            found.append(self.without_refinement(what, "across=none"))
        return found

    def upload(self, client: Client) -> Message:
        update = super().upload(client)
        if self.across != "moved":
            return update
        options, sent = self.options, update.tensors[PUBLISHED]
        moved, parts = learn_moved(client, options.moved_examples, options.moved_parts, sent)
        named = {MOVED + key: value for key, value in moved.items()}
        return Message({**update.tensors, PARTS: parts, **named}, update.scalars)

    def take(self, server: Server, member: Member, update: Message) -> Message:
        moved = update.select(MOVED)
        if any(bool(value.any()) for value in moved.values()):
            named = {key.removeprefix(MOVED): value for key, value in moved.items()}
            server.state.put(LATEST_MOVED, named, member.name)
        others = {key: value for key, value in update.tensors.items() if key not in moved}
        return super().take(server, member, Message(others, update.scalars))

    def experts_of(self, server: Server, member: Member) -> dict[StateKey, dict[str, Tensor]]:
        state, name, model = server.state, member.name, member.architecture
        blocks = state.get(BLOCKS, name)
        found = {expert_key(model, model): {**blocks, **state.get(StateKey("layer", model), name)}}
        if self.across == "trained":
            found[FOR_OTHERS] = {f"0/{key}": value for key, value in blocks.items()}
        elif self.across == "moved" and name in state.clients(LATEST_MOVED):
            found[FOR_OTHERS] = state.get(LATEST_MOVED, name)
        return found


MOVED = "moved/"
"""Beginning of the names of P and Q that are learned for other architectures."""
LATEST_MOVED = StateKey("latest moved")
