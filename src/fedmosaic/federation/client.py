"""Run a client: its private tasks, adapters and stream, and the turns that the server asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fedmosaic.adapters import not_finite
from fedmosaic.algorithms import Algorithm, Message
from fedmosaic.algorithms.message import sent_in_round
from fedmosaic.config import ClientSpec
from fedmosaic.data import ClientStream
from fedmosaic.errors import CheckpointError, TrainingError, UpdateError
from fedmosaic.evaluation import Record
from fedmosaic.federation.client_evaluation import ClientEvaluation
from fedmosaic.federation.client_turn import ClientTurn
from fedmosaic.federation.context import ClientContext, new_stream
from fedmosaic.federation.instructions import ClientResult, Instructions
from fedmosaic.federation.runtime import AdaptedModel, Runtime
from fedmosaic.federation.wire import (
    check,
    pack,
    read_tensors,
    schema_of,
    unpack,
    write_tensors,
)
from fedmosaic.memory import peak_memory
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.flops import FlopCounter
from fedmosaic.training.loop import FitReport


class LocalClient:
    """Run one client on the adapted model that it shares with others of its architecture and rank.

    Between turns the client's state is here: adapters with gates, Adam's moments, the algorithm's
    own tensors and the position of the stream.

    Attributes:
        changed: whether the state differs from the file that was last written or read.
        context: what the algorithm sees of this client.
        algorithm: the algorithm of the current turn.
        stream: the training batches to come.
        flops: operations counted in the current turn.
    """

    def __init__(self, runtime: Runtime, spec: ClientSpec) -> None:
        self.runtime = runtime
        self.spec = spec
        self.name = spec.name
        self.rank = spec.r or runtime.scenario.adapter.r
        self.changed = False
        self.algorithm: Algorithm = runtime.algorithm
        self.flops = FlopCounter()
        self.stream = new_stream(runtime, spec)
        self.context = ClientContext(self)
        self._adapters: dict[str, Tensor] = {}
        self._moments: dict[str, Tensor] = {}

    @property
    def state(self) -> dict[str, Tensor]:
        """Return the tensors that the algorithm keeps for this client between rounds."""
        return self.context.state

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self.context.state = state

    @property
    def adapted(self) -> AdaptedModel:
        """Return the base model with adapters that this client takes turns on."""
        return self.runtime.adapted(self.spec.model, self.rank)

    @property
    def model(self) -> Any:
        """Return the base model with adapters, which hold this client's weights during a turn."""
        return self.adapted.model

    @property
    def backbone(self) -> Backbone:
        """Return the bare base model."""
        return self.adapted.backbone

    # --- turns --------------------------------------------------------------------------------
    def work(self, instructions: Instructions, download: bytes) -> ClientResult:
        """Take one turn: receive, evaluate, train, evaluate, and pack the update."""
        turn = self.begin(instructions)
        with self.turn(trains=instructions.train):
            if instructions.train:
                self.receive(turn, download)
                self.train(turn, self.algorithm.train)
            self.finish(turn)
        return turn.result

    def begin(self, instructions: Instructions) -> ClientTurn:
        """Begin a turn, in which :meth:`receive`, :meth:`train` and :meth:`finish` follow."""
        self.algorithm = self.runtime.algorithm_with(instructions.steps)
        self.context.round = instructions.round
        self.flops = FlopCounter(free=self.runtime.towers())
        return ClientTurn(instructions)

    def receive(self, turn: ClientTurn, download: bytes) -> None:
        """Take in what the server sent, and evaluate where that is asked for."""
        with self.counting(turn.instructions):
            self.algorithm.receive(self.context, unpack(download))
        if self.algorithm.replaces_weights:
            self.adapted.optimiser.restart()
        turn.laps.end("receive")
        if turn.instructions.before:
            turn.result.records += self._evaluate(turn.instructions, "before")
            turn.laps.end("evaluate")
        self.stream.begin_round(turn.instructions.round)

    def train(self, turn: ClientTurn, training: Callable[[ClientContext], FitReport]) -> None:
        """Train by a function and pack the update, or note why there is none."""
        counting = self.counting(turn.instructions)
        try:
            with counting:
                turn.result.fit = self.trained(training)
            turn.laps.end("train")
            self.context.published = False
            with counting:
                update = self.algorithm.upload(self.context)
            number, parts = turn.instructions.round, self.algorithm.alternates
            sent = sent_in_round(update.tensors, parts, number)
            turn.result.update = pack(Message(sent, update.scalars))
            turn.result.new_prototypes = self.context.published
            turn.result.secret_noise = bool(self.runtime.secret) and self._sends_clipped()
            turn.laps.end("upload")
        except TrainingError as error:
            turn.result.failure = str(error)
        if turn.instructions.count:
            turn.result.flops = {"total": self.flops.total, **self.flops.parts}

    def _sends_clipped(self) -> bool:
        """Return whether its updates hold anything that is clipped, so that noise can hide it."""
        clip = self.runtime.scenario.relevance.clip
        return clip is not None or self.algorithm.publishes_prototypes

    def finish(self, turn: ClientTurn) -> None:
        """Evaluate where that is asked for, and close the result."""
        if turn.instructions.after:
            turn.result.records += self._evaluate(turn.instructions, "after")
            turn.laps.end("evaluate")
        turn.laps.end("receive")
        turn.result.seconds, turn.result.memory = turn.laps.seconds, peak_memory()

    def counting(self, instructions: Instructions) -> AbstractContextManager[Any]:
        """Count the operations inside the block where that is asked for."""
        return self.flops if instructions.count else nullcontext()

    @contextmanager
    def turn(self, *, trains: bool = True) -> Iterator[ClientContext]:
        """Put this client's weights and moments into the adapted model, and back at the end.

        Args:
            trains: whether the turn may change them; an evaluation does not.
        """
        self.enter(trains)
        yield self.context
        if trains:
            self._adapters = self.adapted.state()
            self._moments = self.adapted.optimiser.state()
            self.changed = True

    def enter(self, moments: bool = True) -> None:
        """Put this client's weights, and if wanted its moments, into the adapted model."""
        self.adapted.load(self._adapters or self.adapted.fresh)
        if moments:
            self.adapted.optimiser.load(self._moments)

    def trained(self, training: Callable[[ClientContext], FitReport] | None = None) -> FitReport:
        """Train locally, inside a turn.

        Args:
            training: trains the model; None: the algorithm's local training.

        Raises:
            TrainingError: training diverged. The client is then as it was before the turn, so that
                a later round can succeed.
        """
        before = dict(self.state)
        try:
            fitted = (training or self.algorithm.train)(self.context)
            bad = not_finite(self.adapted.parameters)
            if bad is not None:
                raise TrainingError(
                    f"{bad!r} holds NaN or Inf after local training; lower train.lr and "
                    "train.lr_shared"
                )
        except TrainingError:
            self.state = before
            self.enter()
            raise
        return fitted

    def load_stream(self, stream: ClientStream) -> None:
        """Train on another stream from now on, with Adam's moments from zero."""
        self.stream, self._moments = stream, {}

    def release(self) -> None:
        """Let go of all tensors; the client is used no more.

        It and its context refer to each other, so they stay until Python searches for garbage.
        """
        self._adapters, self._moments, self.state = {}, {}, {}

    def _evaluate(
        self, instructions: Instructions, stage: Literal["before", "after"]
    ) -> list[Record]:
        return ClientEvaluation(self, instructions, stage).records()

    # --- on disk ------------------------------------------------------------------------------
    def save(self, path: Path) -> None:
        """Write the client's whole state to one file."""
        self.snapshot()(path)

    def snapshot(self) -> Callable[[Path], None]:
        """Return a function that writes the client's present state to a file.

        It may run on another thread, while the client goes on. Adapters and moments are replaced
        and never changed in place. Only an algorithm could change its own tensors, so these are
        copied.
        """
        stream = self.stream.state_dict()
        arrays = {key: value for key, value in stream.items() if isinstance(value, np.ndarray)}
        plain = {key: value for key, value in stream.items() if key not in arrays}
        parts = {
            "adapter": self._adapters or self.adapted.fresh,
            "moment": self._moments,
            "kept": {key: value.clone() for key, value in self.state.items()},
            "stream": {key: torch.from_numpy(value) for key, value in arrays.items()},
        }
        tensors = {
            f"{part}/{key}": value for part, found in parts.items() for key, value in found.items()
        }
        scalars = {"stream": plain, "round": self.context.round, "client": self.name}
        return lambda path: write_tensors(path, tensors, scalars)

    def load(self, path: Path) -> None:
        """Continue from a file that :meth:`save` wrote.

        Raises:
            CheckpointError: the file is damaged, another client's or of another adapter.
        """
        tensors, scalars = read_tensors(path)
        if scalars.get("client") != self.name:
            raise CheckpointError(
                f"{path} belongs to client {scalars.get('client')!r}, not to {self.name!r}"
            )
        parts: dict[str, dict[str, Tensor]] = {
            "adapter": {},
            "moment": {},
            "kept": {},
            "stream": {},
        }
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            parts[part][name] = value
        try:
            check(Message(parts["adapter"]), schema_of(Message(self.adapted.fresh)))
        except UpdateError as error:
            raise CheckpointError(f"{path} does not fit the client's adapter: {error}") from error
        self._adapters, self._moments, self.state = parts["adapter"], parts["moment"], parts["kept"]
        self.stream = new_stream(self.runtime, self.spec)
        self.stream.load_state_dict(
            {**scalars["stream"], **{k: v.numpy() for k, v in parts["stream"].items()}}
        )
        self.context.round = int(scalars["round"])

    def save_adapter(self, folder: Path) -> None:
        """Write the adapters as ``save_pretrained`` does, one sub-folder for each named adapter."""
        with self.turn(trains=False):
            for config in self.model.peft_config.values():
                config.base_model_name_or_path = self.spec.model
            # Embeddings are frozen; saying so keeps PEFT from asking a hub whether they changed.
            self.model.save_pretrained(
                str(folder),
                selected_adapters=list(self.runtime.algorithm.adapters),
                save_embedding_layers=False,
            )
