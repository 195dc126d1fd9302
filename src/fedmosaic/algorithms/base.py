"""What a federated algorithm is: one class with a client half and a server half, side by side.

To add one, write a file with a subclass of :class:`Algorithm` and enter it in the table of ``algorithms/__init__.py``. The round
loop, the trainer, checkpoints, evaluation, the wire and the command line need no change.

    round:  download(server, c) → [receive → train → upload] on client c → aggregate(server, updates of all clients)
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import ServerState
from fedmosaic.alignment import Alignment
from fedmosaic.config import Scenario, Settings
from fedmosaic.data import ClientStream
from fedmosaic.data.example import Example
from fedmosaic.errors import ConfigError
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.loop import FitReport, Loss, StepHook, fit
from fedmosaic.training.optimiser import ParameterGroup

__all__ = ["Algorithm", "Client", "FitReport", "Loss", "Member", "Server", "fit"]


class Member(Settings):
    """A client as the server knows it: its name, its architecture (model name), how many training samples it has, and the families
    of its tasks, which only controls may look at."""

    name: str
    architecture: str
    samples: int = 1
    families: tuple[str, ...] = ()


class Client(Protocol):
    """What an algorithm's client half can use. One exists while a client takes its turn.

    Attributes:
        model: the base model with the algorithm's adapters, holding *this* client's weights.
        backbone: tokenizer, image features and batching of that base.
        state: tensors the algorithm keeps for this client between rounds (in checkpoints; they never travel by themselves).
    """

    name: str
    round: int
    state: dict[str, Tensor]

    @property
    def model(self) -> Any: ...

    @property
    def backbone(self) -> Backbone: ...

    def fit(
        self,
        steps: int,
        *,
        loss: Loss | None = None,
        each_step: StepHook | None = None,
        examples: Callable[[], Sequence[Example]] | None = None,
    ) -> FitReport:
        """Local training on the client's own stream, or on the batches that ``examples`` gives instead."""

    def other_backbone(self, name: str) -> Backbone:
        """Another bare base model, shared in the process (the signature model, a teacher)."""

    def public(self) -> Sequence[Example]:
        """The public examples, the same for everybody; empty where there are none."""

    def generator(self, purpose: str) -> torch.Generator:
        """Randomness for one purpose in this round of this client."""

    def all_streams(self) -> dict[str, ClientStream]:
        """The streams of all clients as they are before the first round, by name: private data, for oracles in simulations."""

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """An object that is costly to make and the same for all clients of the process."""


class Server(Protocol):
    """What an algorithm's server half can use.

    Attributes:
        members: the clients, in roster order. ledger: the clients' tensors as matrices (checkpointed).
        round: the current round. report: named matrices or numbers of this round for the run folder (relevance, say).
    """

    members: Sequence[Member]
    state: ServerState
    round: int
    report: dict[str, Any]

    def backbone(self, name: str) -> Backbone:
        """A bare base model, for algorithms that distil on the server."""

    def public(self) -> Sequence[Example]:
        """The public examples, the same for everybody; empty where there are none."""

    def generator(self, purpose: str) -> torch.Generator:
        """Randomness for one purpose in this round."""


class Algorithm(ABC):
    """A personalised federated algorithm.

    Class attributes:
        name, summary, paper: as shown by ``fedmosaic list algorithms``.
        adapters: names of the PEFT adapters a client's model carries; all are kept for the client between rounds.
        shares_subspaces: its models carry A and B that the scenario's ``alignment`` makes comparable.
        replaces_weights: downloads overwrite trained weights, so that Adam's moments start anew each round (except those of
            parameters that are declared personal, see :class:`ParameterGroup`).
        views: models a client can be evaluated as; the first is the one it would use.
        needs_public: works on public examples and cannot run without.
        mixed_ranks: clients of one architecture may have adapters of different ranks.
        oracle: an oracle that no ``budget`` limits: it takes the scenario's steps and rounds, whatever they cost.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    adapters: ClassVar[tuple[str, ...]] = ("local",)
    shares_subspaces: ClassVar[bool] = False
    replaces_weights: ClassVar[bool] = False
    views: ClassVar[tuple[str, ...]] = ("mixed",)
    needs_public: ClassVar[bool] = False
    mixed_ranks: ClassVar[bool] = False
    oracle: ClassVar[bool] = False

    class Options(Settings):
        """Settings of the algorithm, under ``algorithms.<name>``. ``steps``: local steps a round, None: ``train.steps``."""

        steps: int | None = None

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
        if self.needs_public and scenario.data.public == "none":
            raise ConfigError(
                f"data.public: {self.name} distils on public examples and the scenario has none; name a file or a set that "
                "every client may see, e.g. data.public=miniature/public"
            )
        self.options = options
        self.scenario = scenario
        self.seed = seed

    @property
    def steps(self) -> int:
        """Local optimiser steps a round."""
        return int(self.options.steps or self.scenario.train.steps)

    # --- client half ------------------------------------------------------------------------------------------------
    @abstractmethod
    def build(self, backbone: Backbone, public: Sequence[Example]) -> Any:
        """Adapters on a fork of the backbone, the same for every client of the architecture at the start.

        Returns:
            the PEFT model.
        """

    def build_aligned(
        self, backbone: Backbone, public: Sequence[Example], aligned: Alignment | None
    ) -> Any:
        """As :meth:`build`, with the A and B that the model shares with other architectures; for algorithms that have such.

        Args:
            aligned: of this architecture to the federation's pivot; None where the scenario aligns nothing.
        """
        return self.build(backbone, public)

    def built(
        self, backbone: Backbone, public: Sequence[Example], aligned: Alignment | None = None
    ) -> Any:
        """What :meth:`build_aligned` gives."""
        with warnings.catch_warnings():
            # PEFT 0.21 reads a name that transformers 5 deprecates; nothing a user could do about it.
            warnings.simplefilter("ignore", FutureWarning)
            return self.build_aligned(backbone, public, aligned)

    @abstractmethod
    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        """What local training updates."""

    @abstractmethod
    def receive(self, client: Client, download: Message) -> None:
        """Put what the server sent where it belongs. An empty download (first round) changes nothing."""

    def start_from_received(self, client: Client) -> None:
        """Begin anew with what was received in place of the client's own adapter, for a task that is like none of its own.

        By default nothing happens: where downloads overwrite what is trained, that is how every round begins. What an algorithm
        keeps private stays.
        """
        return

    def train(self, client: Client) -> FitReport:
        """Local training; by default ``steps`` steps on the client's stream."""
        return client.fit(self.steps)

    @abstractmethod
    def upload(self, client: Client) -> Message:
        """What leaves the client after training. Also called once before the first round, for names and shapes."""

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        """The client's model as ``name`` (one of ``views``) for evaluation."""
        yield client.model

    # --- server half ------------------------------------------------------------------------------------------------
    @abstractmethod
    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        """Turn the accepted updates of a round, by client, into what the next downloads need (in ``server.state``)."""

    @abstractmethod
    def download(self, server: Server, member: Member) -> Message:
        """What the server sends this client next; an empty message while there is nothing to send."""
