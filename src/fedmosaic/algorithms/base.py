"""What a federated algorithm is: one class with a client half and a server half, side by side.

To add one, write a file with a subclass of :class:`Algorithm` and enter it in the table of ``algorithms/__init__.py``. The round
loop, the trainer, checkpoints, evaluation, the wire and the command line need no change.

    round:  download(server, c) → [receive → train → upload] on client c → aggregate(server, updates of all clients)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fedmosaic.algorithms.ledger import Ledger
from fedmosaic.algorithms.message import Message
from fedmosaic.config import Scenario, Settings
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.loop import FitReport, Loss, StepHook, fit
from fedmosaic.training.optimiser import ParameterGroup

__all__ = ["Algorithm", "Client", "FitReport", "Loss", "Member", "Server", "fit"]


class Member(Settings):
    """A client as the server knows it: its name, its architecture (model name) and how many training samples it has."""

    name: str
    architecture: str
    samples: int = 1


class Client(Protocol):
    """What an algorithm's client half can use. One exists while a client takes its turn.

    Attributes:
        model: the base model with the algorithm's adapters, holding *this* client's weights.
        backbone: tokenizer, image features and batching of that base.
        kept: tensors the algorithm keeps for this client between rounds (in checkpoints; they never travel by themselves).
    """

    name: str
    round: int
    kept: dict[str, Tensor]

    @property
    def model(self) -> Any: ...

    @property
    def backbone(self) -> Backbone: ...

    def fit(self, steps: int, *, loss: Loss | None = None, each_step: StepHook | None = None) -> FitReport:
        """Local training on the client's own stream."""

    def other_backbone(self, name: str) -> Backbone:
        """Another bare base model, shared in the process (the signature model, a teacher)."""

    def public(self) -> Sequence[Example]:
        """The public examples, the same for everybody; empty where there are none."""

    def generator(self, purpose: str) -> torch.Generator:
        """Randomness for one purpose in this round of this client."""

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """An object that is costly to make and the same for all clients of the process."""


class Server(Protocol):
    """What an algorithm's server half can use.

    Attributes:
        members: the clients, in roster order. ledger: the clients' tensors as matrices (checkpointed).
        round: the current round. report: named matrices or numbers of this round for the run folder (relevance, say).
    """

    members: Sequence[Member]
    ledger: Ledger
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
        replaces_weights: downloads overwrite trained weights, so that Adam's moments start anew each round.
        views: models a client can be evaluated as; the first is the one it would use.
        mixed_ranks: clients of one architecture may have adapters of different ranks.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    adapters: ClassVar[tuple[str, ...]] = ("local",)
    replaces_weights: ClassVar[bool] = False
    views: ClassVar[tuple[str, ...]] = ("mixed",)
    mixed_ranks: ClassVar[bool] = False

    class Options(Settings):
        """Settings of the algorithm, under ``algorithms.<name>``. ``steps``: local steps a round, None: ``train.steps``."""

        steps: int | None = None

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
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

    @abstractmethod
    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        """What local training updates."""

    @abstractmethod
    def receive(self, client: Client, download: Message) -> None:
        """Put what the server sent where it belongs. An empty download (first round) changes nothing."""

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
        """Turn the accepted updates of a round, by client, into what the next downloads need (in ``server.ledger``)."""

    @abstractmethod
    def download(self, server: Server, member: Member) -> Message:
        """What the server sends this client next; an empty message while there is nothing to send."""
