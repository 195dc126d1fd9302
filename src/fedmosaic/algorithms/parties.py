"""Define what an algorithm sees of a client, of the server, and of the clients at the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fedmosaic.algorithms.state import ServerState
from fedmosaic.config import Settings
from fedmosaic.data import ClientStream
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.loop import FitReport, Loss, StepHook


class Member(Settings):
    """Describe a client as the server knows it.

    Attributes:
        name: the client's name.
        architecture: name of its base model.
        samples: number of its training samples.
        families: families of its tasks; empty for all algorithms but oracles.
    """

    name: str
    architecture: str
    samples: int = 1
    families: tuple[str, ...] = ()


class Client(Protocol):
    """List what the client half of an algorithm can use. An object exists during a client's turn.

    Attributes:
        name: the client's name.
        round: the current round, from 0.
        state: tensors that the algorithm keeps for this client between rounds. They are in
            checkpoints and are never sent.
        model: the base model with the algorithm's adapters, which hold this client's weights.
        backbone: tokenizer, image features and batching of that base model.
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
        """Train the client's model.

        Args:
            steps: number of optimiser steps.
            loss: from model, backbone and batch to a scalar; default: cross-entropy on the answers.
            each_step: called with the step number and its examples before the optimiser step.
            examples: returns the next batch; default: batches of the client's own stream.
        """

    def other_backbone(self, name: str) -> Backbone:
        """Return another bare base model, shared in the process (a signature model, a teacher)."""

    def public(self) -> Sequence[Example]:
        """Return the public examples, the same for all clients; empty where there are none."""

    @property
    def samples(self) -> int:
        """Return the number of training examples, with those that are still to arrive."""

    def arrived(self) -> Sequence[Example]:
        """Return the training examples that have arrived, in order of arrival."""

    def prompt_features(self) -> Tensor:
        """Return features of the training prompts that have arrived, [n, f], in order of arrival.

        They are of the scenario's ``relevance.model``.
        """

    def generator(self, purpose: str) -> torch.Generator:
        """Return a generator of random numbers for one purpose in this round of this client."""

    def signature_noise(self, signature: Tensor) -> Tensor:
        """Return standard normal numbers that hide a signature, in its shape, on the CPU."""

    def prototype_noise(self, prototypes: Tensor) -> Tensor:
        """Return standard normal numbers that hide prototypes, in their shape, on the CPU."""

    def all_streams(self) -> dict[str, ClientStream]:
        """Return the private streams of all clients by name, where ``oracle = True``."""

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """Return an object that is costly to make and the same for all clients of the process."""


class Server(Protocol):
    """List what the server half of an algorithm can use.

    Attributes:
        members: the clients, in roster order.
        state: tensors that the server keeps between rounds; in checkpoints.
        round: the current round, from 0.
        receivers: the clients that may get a download after this round; None: all.
    """

    @property
    def members(self) -> Sequence[Member]: ...

    @property
    def state(self) -> ServerState: ...

    @property
    def round(self) -> int: ...

    @property
    def receivers(self) -> Sequence[str] | None: ...

    def record(self, name: str, value: Any) -> None:
        """Write a number, matrix or mapping of this round into the run folder."""

    def backbone(self, name: str) -> Backbone:
        """Return a bare base model, for algorithms that distil on the server."""

    def public(self) -> Sequence[Example]:
        """Return the public examples, the same for all clients; empty where there are none."""

    def generator(self, purpose: str) -> torch.Generator:
        """Return a generator of random numbers for one purpose in this round."""
