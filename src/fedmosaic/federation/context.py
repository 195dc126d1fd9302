"""Define what an algorithm sees of the server and of a client.

An algorithm works on these objects and not on the round loop or the client's machinery. Data and
task families of other clients are refused unless the algorithm declares ``oracle = True``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fedmosaic.adapters.fused_layers import in_few_operations
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.state import ServerState
from fedmosaic.algorithms.storage import Storage
from fedmosaic.config import ClientSpec
from fedmosaic.data import ClientStream
from fedmosaic.data.example import Example
from fedmosaic.errors import ConfigError
from fedmosaic.federation.instructions import Introduction
from fedmosaic.federation.prompts import prompt_features
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone
from fedmosaic.relevance.privacy import secret_noise, seeded_noise
from fedmosaic.seeding import generator, seed_for
from fedmosaic.training.loop import FitReport, Loss, StepHook, fit
from fedmosaic.training.loss import answer_loss
from fedmosaic.training.upcoming import UpcomingBatches

if TYPE_CHECKING:
    from fedmosaic.federation.client import LocalClient

STEPS = "steps"
# Steps on other examples than the stream's, which ``train.steps`` does not govern.
OTHER_STEPS = "other_steps"


class ServerContext:
    """Give an algorithm's server half what it may use.

    Implements :class:`fedmosaic.algorithms.base.Server`.

    Args:
        runtime: settings, algorithm and models.
        introductions: of the clients, by name.
        folder: for files of what does not fit into ``server.memory``; None: a temporary one.

    Attributes:
        members: the clients, in roster order.
        state: the clients' tensors as matrices, part of every checkpoint.
        round: number of the current round, from 0.
        receivers: the clients that may get a download after this round; None: all.
        recorded: what the algorithm has recorded since the round began, by name.
    """

    def __init__(
        self,
        runtime: Runtime,
        introductions: Mapping[str, Introduction],
        folder: Path | None = None,
    ) -> None:
        self._runtime = runtime
        self.members: Sequence[Member] = [
            _member(client.name, introductions[client.name], runtime.algorithm.oracle)
            for client in runtime.scenario.clients
        ]
        self.state = ServerState(
            [member.name for member in self.members],
            Storage(runtime.scenario.server.memory_bytes, folder),
            Counter(member.architecture for member in self.members),
        )
        self.round = 0
        self.receivers: Sequence[str] | None = None
        self.recorded: dict[str, Any] = {}

    def record(self, name: str, value: Any) -> None:
        """Write a number, matrix or mapping into the round's line of the metrics file."""
        self.recorded[name] = value

    def backbone(self, name: str) -> Backbone:
        """Return a bare base model, for algorithms that distil on the server."""
        return self._runtime.backbone(name)

    def public(self) -> Sequence[Example]:
        """Return the public examples; none where the scenario names no public set."""
        return self._runtime.public()

    def generator(self, purpose: str) -> torch.Generator:
        """Return a random generator for one purpose in this round."""
        return generator(self._runtime.settings.seed, "server", self.round, purpose)


def _member(name: str, introduction: Introduction, oracle: bool) -> Member:
    return Member(
        name=name,
        architecture=introduction.architecture,
        samples=introduction.samples,
        families=tuple(introduction.families) if oracle else (),
    )


class ClientContext:
    """Give an algorithm's client half what it may use.

    Implements :class:`fedmosaic.algorithms.base.Client`.

    Attributes:
        name: the client's name.
        round: number of the current round, from 0.
        state: tensors that the algorithm keeps for this client between rounds.
        published: whether noise was drawn for new prototypes since this was last set to False.
    """

    def __init__(self, client: LocalClient) -> None:
        self._client = client
        self._runtime = client.runtime
        self.name = client.name
        self.round = 0
        self.state: dict[str, Tensor] = {}
        self.published = False

    @property
    def model(self) -> Any:
        """Return the base model with adapters that hold this client's weights."""
        return self._client.adapted.model

    @property
    def backbone(self) -> Backbone:
        """Return tokenizer, image features and batching of the client's base model."""
        return self._client.adapted.backbone

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
            loss: from model, backbone and batch to a scalar; default: cross-entropy on answers.
            each_step: called with the step number and its examples before the optimiser step.
            examples: returns the next batch; default: batches of the client's own stream.
        """
        client, stream = self._client, self._client.stream
        fused = in_few_operations(client.adapted.fused_layers)
        with client.flops.part(OTHER_STEPS if examples else STEPS), fused:
            return fit(
                self.model,
                self.backbone,
                client.adapted.optimiser,
                examples or UpcomingBatches(self.backbone, stream.next_examples, steps),
                steps,
                dropout_seed=seed_for(
                    self._runtime.settings.seed,
                    self.name,
                    self.round,
                    "public dropout" if examples else "dropout",
                ),
                first_step=self.round * steps,
                total_steps=self._runtime.scenario.rounds * steps,
                loss=loss or answer_loss,
                each_step=each_step,
            )

    def other_backbone(self, name: str) -> Backbone:
        """Return another bare base model, shared in the process."""
        return self._runtime.backbone(name)

    def public(self) -> Sequence[Example]:
        """Return the public examples; none where the scenario names no public set."""
        return self._runtime.public()

    @property
    def samples(self) -> int:
        """Return the number of training examples, with those that are still to arrive."""
        return self._client.stream.sample_count

    def arrived(self) -> Sequence[Example]:
        """Return the training examples that have arrived, in order of arrival."""
        return self._client.stream.arrived()

    def prompt_features(self) -> Tensor:
        """Return features of the training prompts that have arrived, in order of arrival."""
        return prompt_features(self._runtime)(self.arrived())

    def generator(self, purpose: str) -> torch.Generator:
        """Return a random generator for one purpose in this round of this client."""
        return generator(self._runtime.settings.seed, self.name, self.round, purpose)

    def signature_noise(self, signature: Tensor) -> Tensor:
        """Return standard normal numbers that hide a signature, in its shape, on the CPU.

        Where the client has a secret, they come from it; else from the run's seed. Without
        ``relevance.clip`` no noise guarantees anything, and the run can be repeated.
        """
        clipped = self._runtime.scenario.relevance.clip is not None
        return self._noise(signature, "signature noise", clipped)

    def prototype_noise(self, prototypes: Tensor) -> Tensor:
        """Return standard normal numbers that hide prototypes, in their shape, on the CPU.

        They come from the client's secret where it has one, else from the run's seed. Every draw
        is a release of its own, which is counted.
        """
        self.published = True
        return self._noise(prototypes, "prototype noise", True)

    def _noise(self, values: Tensor, purpose: str, may_be_secret: bool) -> Tensor:
        secret = self._runtime.secret
        if secret and may_be_secret:
            return secret_noise(secret, self.name, self.round, purpose)(values)
        return seeded_noise(self.generator(purpose))(values)

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """Return an object that is costly to make and the same for all clients of the process."""
        with self._client.flops.paused():
            return self._runtime.cached(key, make)

    def all_streams(self) -> dict[str, ClientStream]:
        """Return the streams of all clients as they are before the first round, by client name.

        Raises:
            ConfigError: the algorithm is no oracle: it may not see other clients' data.
        """
        algorithm = self._runtime.algorithm
        if not algorithm.oracle:
            raise ConfigError(
                f"{algorithm.name} asks for the training data of all clients, which a federated "
                "algorithm never sees; only a simulated upper bound may, and declares oracle = True"
            )
        clients = self._runtime.scenario.clients
        return {client.name: new_stream(self._runtime, client) for client in clients}


def new_stream(runtime: Runtime, client: ClientSpec) -> ClientStream:
    """Return a client's stream as it is before the first round."""
    scenario = runtime.scenario
    return ClientStream(
        runtime.client_tasks(client),
        mode=scenario.stream,
        rounds=scenario.rounds,
        steps_per_round=runtime.algorithm.steps,
        batch_size=scenario.train.batch_size,
        memory_size=scenario.memory.size,
        temperature=scenario.memory.temperature,
        decay=scenario.memory.decay,
        seed_parts=(runtime.settings.seed, client.name),
    )
