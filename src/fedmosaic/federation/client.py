"""A client: its private tasks and stream, its adapters and moments, and what it does with an instruction from the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedmosaic.adapters import not_finite
from fedmosaic.algorithms import Message
from fedmosaic.config import ClientSpec, TaskSpec
from fedmosaic.data import ClientStream
from fedmosaic.data.example import Example
from fedmosaic.errors import CheckpointError, TrainingError, UpdateError
from fedmosaic.evaluation import Record
from fedmosaic.federation.measure import measure
from fedmosaic.federation.runtime import AdaptedModel, Runtime
from fedmosaic.federation.wire import check, pack, read_tensors, schema_of, unpack, write_tensors
from fedmosaic.memory import peak_memory
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator, seed_for
from fedmosaic.training.flops import FlopCounter
from fedmosaic.training.loop import FitReport, Loss, StepHook, fit
from fedmosaic.training.loss import answer_loss


@dataclass(frozen=True)
class Instructions:
    """What the server asks of a client in a round, beside the download.

    Attributes:
        train: take part in the round. before, after: evaluate before and after local training.
        items: test items a task; None for all.
        count: count the operations of receiving, training and uploading (they are the same in every round, nearly).
    """

    round: int
    train: bool = True
    before: bool = False
    after: bool = False
    items: int | None = None
    count: bool = False


@dataclass
class ClientResult:
    """What a client gives back: the packed update (None if it has none), its measurements, and what it cost.

    Attributes:
        failure: why it has no update although it was asked to train; empty otherwise.
    """

    update: bytes | None = None
    failure: str = ""
    records: list[Record] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


class LocalClient:
    """One client on its architecture's adapted. Implements :class:`fedmosaic.algorithms.base.Client`.

    Between turns its state is here: adapters (gates included), Adam's moments, kept tensors and the stream's position.
    """

    def __init__(self, runtime: Runtime, spec: ClientSpec, index: int) -> None:
        self.runtime = runtime
        self.spec = spec
        self.name = spec.name
        self.index = index
        self.round = 0
        self.state: dict[str, Tensor] = {}
        self.tasks = runtime.tasks(spec)
        self.flops = FlopCounter()
        self.stream = self._new_stream()
        self._adapters: dict[str, Tensor] = {}
        self._moments: dict[str, Tensor] = {}

    # --- what an algorithm can use ----------------------------------------------------------------------------------
    @property
    def adapted(self) -> AdaptedModel:
        return self.runtime.adapted(self.spec.model, self.runtime.scenario.rank_of(self.name))

    @property
    def model(self) -> Any:
        return self.adapted.model

    @property
    def backbone(self) -> Backbone:
        return self.adapted.backbone

    def fit(
        self,
        steps: int,
        *,
        loss: Loss | None = None,
        each_step: StepHook | None = None,
        examples: Callable[[], Sequence[Example]] | None = None,
    ) -> FitReport:
        # Steps on other examples than the stream's are a part of the round that train.steps does not govern.
        with self.flops.part("other_steps" if examples else "steps"):
            return fit(
                self.model,
                self.backbone,
                self.adapted.optimiser,
                examples or (lambda: self.stream.examples(self.stream.next_batch())),
                steps,
                dropout_seed=seed_for(
                    self.runtime.settings.seed,
                    self.name,
                    self.round,
                    "public dropout" if examples else "dropout",
                ),
                first_step=self.round * steps,
                total_steps=self.runtime.scenario.rounds * steps,
                loss=loss or answer_loss,
                each_step=each_step,
            )

    def other_backbone(self, name: str) -> Backbone:
        return self.runtime.backbone(name)

    def public(self) -> Sequence[Example]:
        return self.runtime.public()

    def generator(self, purpose: str) -> torch.Generator:
        return generator(self.runtime.settings.seed, self.name, self.round, purpose)

    def all_streams(self) -> dict[str, ClientStream]:
        specs = self.runtime.scenario.clients
        return {
            spec.name: LocalClient(self.runtime, spec, index).stream
            for index, spec in enumerate(specs)
        }

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        with self.flops.paused():
            return self.runtime.cached(key, make)

    def load_stream(self, stream: ClientStream) -> None:
        """From now on train on another stream, as something new: Adam's moments begin again."""
        self.stream, self._moments = stream, {}

    # --- turns ------------------------------------------------------------------------------------------------------
    def introduce(self) -> dict[str, Any]:
        """What the server must know beforehand: architecture, number of samples, and what the tensors of an update are."""
        self.runtime.check_model(self.spec, [*self.spec.tasks, *self._measured()])
        with self.turn():
            schema = schema_of(self.runtime.algorithm.upload(self))
        samples = sum(len(task.train) for task in self.tasks)
        families = [task.family or task.name for task in self.tasks]
        return {
            "architecture": self.spec.model,
            "samples": samples,
            "families": families,
            "schema": {k: list(v) for k, v in schema.items()},
        }

    def work(self, instruction: Instructions, download: bytes) -> ClientResult:
        """One turn: receive, measure, train, measure, and pack the update."""
        algorithm = self.runtime.algorithm
        result = ClientResult()
        seconds = {"receive": 0.0, "train": 0.0, "evaluate": 0.0, "upload": 0.0}
        clock = time.perf_counter()

        def lap(part: str) -> None:
            nonlocal clock
            now = time.perf_counter()
            seconds[part] += now - clock
            clock = now

        with self.turn():
            self.round = instruction.round
            if instruction.train:
                self.flops = FlopCounter(free=self.runtime.towers())
                counting = self.flops if instruction.count else nullcontext()
                with counting:
                    algorithm.receive(self, unpack(download))
                if algorithm.replaces_weights:
                    self.adapted.optimiser.restart()
                lap("receive")
                if instruction.before:
                    result.records += self._evaluate(instruction, "before")
                    lap("evaluate")
                self.stream.begin_round(instruction.round)
                try:
                    with counting:
                        result.report = asdict(self.trained())
                    lap("train")
                    with counting:
                        update = algorithm.upload(self)
                    result.update = pack(update)
                    lap("upload")
                except TrainingError as error:
                    result.failure = str(error)
                if instruction.count:
                    result.report["flops"] = {"total": self.flops.total, **self.flops.parts}
            if instruction.after:
                result.records += self._evaluate(instruction, "after")
                lap("evaluate")
        lap("receive")
        result.report["parts"] = result.report.pop("seconds", {})
        result.report["seconds"] = seconds
        result.report["memory"] = peak_memory()
        return result

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Put this client's weights and moments into the adapted, and take them back at the end."""
        self._enter()
        yield
        self._adapters = self.adapted.state()
        self._moments = self.adapted.optimiser.state()

    def _enter(self) -> None:
        self.adapted.load(self._adapters or self.adapted.fresh)
        self.adapted.optimiser.load(self._moments)

    def trained(self) -> FitReport:
        """Local training, inside a turn. On TrainingError the client is again what it was before the turn, so that a next can be better."""
        kept = dict(self.state)
        try:
            fitted = self.runtime.algorithm.train(self)
            bad = not_finite(self.adapted.parameters)
            if bad is not None:
                raise TrainingError(
                    f"{bad!r} holds NaN or Inf after local training; lower train.lr and train.lr_shared"
                )
        except TrainingError:
            self.state = kept
            self._enter()
            raise
        return fitted

    def _evaluate(self, instruction: Instructions, stage: str) -> list[Record]:
        records = []
        for view in self.runtime.scenario.evaluation.views:
            if view not in self.runtime.algorithm.views:
                continue
            with self.runtime.algorithm.view(self, view) as model:
                for spec in self._measured():
                    started = time.perf_counter()
                    score = measure(
                        self.runtime, self.backbone, model, spec, self._items(spec, instruction)
                    )
                    elapsed = time.perf_counter() - started
                    records.append(
                        Record(
                            round=instruction.round,
                            client=self.name,
                            task=spec.name,
                            metric=self.runtime.task(spec, "tasks").metric,
                            value=score.score,
                            n=score.n,
                            unreadable=score.unreadable,
                            stage=stage,  # type: ignore[arg-type]
                            view=view,
                            seconds=elapsed,
                        )
                    )
        return records

    def _measured(self) -> list[TaskSpec]:
        scenario = self.runtime.scenario
        if not scenario.evaluation.others:
            return list(self.spec.tasks)
        every = [spec for client in scenario.clients for spec in client.tasks] + list(
            scenario.unseen
        )
        return list({spec.name: spec for spec in every}.values())

    def _items(self, spec: TaskSpec, instruction: Instructions) -> int | None:
        """Test items of a task; None for all."""
        most = self.runtime.scenario.evaluation.others_items
        if most is None or spec.name in {own.name for own in self.spec.tasks}:
            return instruction.items
        return most if instruction.items is None else min(most, instruction.items)

    # --- on disk ----------------------------------------------------------------------------------------------------
    def save(self, path: Path) -> None:
        """Everything this client is, in one file."""
        stream = self.stream.state_dict()
        arrays = {key: value for key, value in stream.items() if isinstance(value, np.ndarray)}
        plain = {key: value for key, value in stream.items() if key not in arrays}
        tensors = {
            f"adapter/{key}": value for key, value in (self._adapters or self.adapted.fresh).items()
        }
        tensors |= {f"moment/{key}": value for key, value in self._moments.items()}
        tensors |= {f"kept/{key}": value for key, value in self.state.items()}
        tensors |= {f"stream/{key}": torch.from_numpy(value) for key, value in arrays.items()}
        write_tensors(path, tensors, {"stream": plain, "round": self.round, "client": self.name})

    def load(self, path: Path) -> None:
        """Continue from :meth:`save`. Raises CheckpointError if the file is another client's or damaged."""
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
        self.stream = self._new_stream()
        self.stream.load_state_dict(
            {**scalars["stream"], **{k: v.numpy() for k, v in parts["stream"].items()}}
        )
        self.round = int(scalars["round"])

    def save_adapter(self, folder: Path) -> None:
        """The adapter as ``save_pretrained`` makes it, one sub-folder for each named adapter."""
        with self.turn():
            # Embeddings are frozen; saying so keeps PEFT from asking a hub whether they changed.
            self.model.save_pretrained(
                str(folder),
                selected_adapters=list(self.runtime.algorithm.adapters),
                save_embedding_layers=False,
            )

    def _new_stream(self) -> ClientStream:
        scenario = self.runtime.scenario
        return ClientStream(
            self.tasks,
            mode=scenario.stream,
            rounds=scenario.rounds,
            steps_per_round=self.runtime.algorithm.steps,
            batch_size=scenario.train.batch_size,
            memory_size=scenario.memory.size,
            temperature=scenario.memory.temperature,
            decay=scenario.memory.decay,
            seed_parts=(self.runtime.settings.seed, self.name),
        )
