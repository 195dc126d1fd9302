"""Run TAKFL: FedAvg within each architecture, task arithmetic between architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Loss, Server, fit
from fedmosaic.algorithms.common.average import MEAN, averaged, taking_part
from fedmosaic.algorithms.common.token_bridge import Bridges, blend
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.alignment.correspondence.vocabulary import vocabulary_size
from fedmosaic.config import Scenario
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.training.distil import (
    Predictions,
    PublicBatches,
    distillation_loss,
    label_logits,
    predict,
)
from fedmosaic.training.optimiser import Optimiser

State = Mapping[str, Tensor]


class TAKFL(FedAvg):
    """Distil between device prototypes, which are architectures here, and add up the task vectors.

    After a round the server has, for each prototype i, the average θ_i of its clients (FedAvg) and
    the ensemble z_i, the mean of their logits. On public examples it distils each ensemble j into
    each student i separately, from θ_i on, and adds up the results:

        L_ij = T² KL( softmax(z_j/T) ‖ softmax(z/T) )
               + γ T_s² KL( softmax(z_{θ_i}/T_s) ‖ softmax(z/T_s) )
        τ_ij = argmin L_ij − θ_i,      θ_i ← θ_i + Σ_j λ_ij τ_ij,      Σ_j λ_ij = 1

    The second term holds the student near its start (self-regularisation). λ is 1/M for each of M
    prototypes. With ``candidates`` it is the best of some weightings by mean −log p(answer) on the
    public examples: the uniform one and random ones that favour larger prototypes, drawn as in the
    authors' experiments.

    - Up: A and B of every layer.
    - Down: θ_i of the client's architecture.

    Source: Morafah et al. 2024 (NeurIPS; arXiv 2409.18461), section 5; T, T_s and the draw of λ:
    the authors' experiments.

    Differences from the paper:

    - A prototype of which one client took part is its own ensemble and has nothing to learn from
      it: τ_ii = 0.
    - Prototypes of which no client took part neither teach nor learn.
    - Predictions are mapped between vocabularies and reduced to their ``top_k`` likeliest tokens.
    """

    name: ClassVar[str] = "takfl"
    summary: ClassVar[str] = (
        "FedAvg within architectures, task arithmetic of distilled knowledge between them"
    )
    paper: ClassVar[str] = "Morafah et al. 2024 (NeurIPS; arXiv 2409.18461)"
    exchange: ClassVar[str] = (
        "adapters between clients of one model, predictions on public examples between models"
    )
    needs_public: ClassVar[bool] = True
    trims: ClassVar[bool] = False
    maps_predictions: ClassVar[bool] = True

    class Options(FedAvg.Options):
        """Hold the settings of the distillation on the server."""

        temperature: float = Field(default=3.0, gt=0)
        """T, temperature of the ensembles' predictions."""
        self_temperature: float = Field(default=20.0, gt=0)
        """T_s, temperature of the self-regularisation."""
        self_weight: float = Field(default=1.0, ge=0)
        """γ, weight of the self-regularisation; 0: none."""
        public_steps: int | None = Field(default=None, ge=1)
        """Steps per round for each teacher and student; None: one pass over the public examples."""
        top_k: int = Field(default=256, ge=1)
        """Number of tokens of each prediction."""
        candidates: int = Field(default=0, ge=0)
        """Number of random λ that are tried in addition to the uniform one."""

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
        super().__init__(options, scenario, seed)
        self.bridges = Bridges()

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        super().aggregate(server, updates)
        adapters = {
            name: [updates[member.name].tensors for member in members]
            for name, members in taking_part(server, updates).items()
        }
        prototypes = {name: Prototype(self, server, name) for name in adapters}
        ensembles = {
            name: prototypes[name].predict(states, self.options.temperature)
            for name, states in adapters.items()
        }
        report: dict[str, Any] = {}
        mapped: dict[str, float] = {}
        for name, student in prototypes.items():
            start = averaged(server, name)
            # One client's ensemble is the student itself.
            teachers = {
                teacher: predictions
                for teacher, predictions in ensembles.items()
                if teacher != name or len(adapters[name]) > 1
            }
            vectors = self._task_vectors(server, student, start, teachers, mapped)
            weights = self._weights(server, student, start, vectors, list(adapters))
            server.state.put(StateKey(MEAN, name), _add(start, vectors, weights))
            norms = {teacher: _norm(vector) for teacher, vector in vectors.items()}
            report[name] = {"weights": weights, "norms": norms}
        server.record("task_vectors", report)
        server.record("mapped", mapped)

    def _task_vectors(
        self,
        server: Server,
        student: Prototype,
        start: State,
        teachers: Mapping[str, Predictions],
        mapped: dict[str, float],
    ) -> dict[str, State]:
        """Return τ of each teacher; add the mapped shares of their predictions to ``mapped``."""
        name = student.backbone_name
        own = student.predict([start], self.options.self_temperature)
        vectors: dict[str, State] = {}
        for teacher, predictions in teachers.items():
            bridge = self.bridges.between(server, teacher, name)
            found = bridge.map(predictions)
            mapped[f"{teacher} -> {name}"] = bridge.matched * found.mapped
            size = vocabulary_size(student.backbone)
            targets = blend([found.predictions], size, self.options.top_k)
            learned = student.learn(start, own, targets, teacher)
            vectors[teacher] = {key: learned[key] - value for key, value in start.items()}
        return vectors

    def _weights(
        self,
        server: Server,
        student: Prototype,
        start: State,
        vectors: Mapping[str, State],
        teachers: Sequence[str],
    ) -> dict[str, float]:
        """Return λ of each teacher.

        Uniform, or of several candidates the one with the least loss on the public examples.
        """
        tried = [dict.fromkeys(teachers, 1 / len(teachers))]
        if not self.options.candidates:
            return tried[0]
        sizes = {
            name: sum(p.numel() for p in server.backbone(name).model.parameters())
            for name in teachers
        }
        smallest_first = sorted(teachers, key=lambda name: sizes[name])
        # Names the draw; published runs depend on it.
        noise = server.generator(f"weights of {student.backbone.identity}")
        for index in range(self.options.candidates):
            uniform = torch.rand(len(teachers), generator=noise, dtype=torch.float64)
            beta = 1 - (1 - uniform) ** (1 / 100)  # Beta(1, 100)
            shares = (beta ** (1, 5, 10)[index % 3]).sort().values
            tried.append(dict(zip(smallest_first, (shares / shares.sum()).tolist(), strict=True)))
        return min(tried, key=lambda weights: student.loss(_add(start, vectors, weights)))


class Prototype:
    """Run an architecture's model on the server with any client's weights.

    Args:
        algorithm: builds the adapters.
        server: lends the base model and the public examples.
        name: of the architecture.
    """

    def __init__(self, algorithm: TAKFL, server: Server, name: str) -> None:
        self.algorithm, self.options, self.server = algorithm, algorithm.options, server
        self.backbone_name = name
        self.backbone = server.backbone(name)
        self.model = algorithm.build(self.backbone, server.public())

    def predict(self, states: Sequence[State], temperature: float) -> Predictions:
        """Return an ensemble's predictions on the public examples: the softened mean of logits."""
        return self._predict(states, temperature)[0]

    def loss(self, state: State) -> float:
        """Return the mean −log p(answer) on the public examples."""
        return float(self._predict([state], 1.0)[1].mean())

    def learn(self, start: State, own: Predictions, targets: Predictions, teacher: str) -> State:
        """Return the weights after distillation.

        Args:
            start: weights that it begins with.
            own: predictions of ``start``, which hold the student near it.
            targets: predictions of the teacher, in the student's tokens.
            teacher: name of the teacher's architecture.
        """
        options, server, train = self.options, self.server, self.algorithm.scenario.train
        write_state(self.model, "local", start)
        # Names two draws; published runs depend on it.
        purpose = f"{server.backbone(teacher).identity} teaches {self.backbone.identity}"
        draw = server.generator(purpose)
        batches = PublicBatches(self.backbone, server.public(), train.batch_size, draw)
        seed = torch.randint(2**31, (), generator=server.generator(f"{purpose}, dropout"))
        steps = options.public_steps or batches.steps
        fit(
            self.model,
            self.backbone,
            Optimiser(self.algorithm.parameters(self.model), train),
            batches.draw,
            steps,
            dropout_seed=int(seed),
            first_step=server.round * steps,
            total_steps=self.algorithm.scenario.rounds * steps,
            loss=self._distillation(own, targets, batches),
        )
        return {key: value.cpu() for key, value in read_state(self.model, "local").items()}

    def _distillation(self, own: Predictions, targets: Predictions, batches: PublicBatches) -> Loss:
        """Return L: distillation towards the targets, and self-regularisation towards ``own``."""
        options = self.options

        def loss(model: Any, backbone: Backbone, batch: Batch) -> Tensor:
            logits, _ = label_logits(model, backbone, batch)
            learned = distillation_loss(logits, targets.at(batches.rows), options.temperature)
            held = distillation_loss(logits, own.at(batches.rows), options.self_temperature)
            whole: Tensor = learned + options.self_weight * held
            return whole

        return loss

    def _predict(self, states: Sequence[State], temperature: float) -> tuple[Predictions, Tensor]:
        def mean_logits(batch: Batch) -> tuple[Tensor, Tensor]:
            total, labels = torch.zeros(()), torch.empty(0)
            for state in states:
                write_state(self.model, "local", state)
                logits, labels = label_logits(self.model, self.backbone, batch)
                total = logits + total.to(logits.device)
            return total / len(states), labels

        examples, top_k = self.server.public(), self.options.top_k
        return predict(mean_logits, self.backbone, examples, temperature=temperature, top_k=top_k)


def _add(start: State, vectors: Mapping[str, State], weights: Mapping[str, float]) -> State:
    """Return θ + Σ_j λ_j τ_j."""
    return {
        key: value + sum(weights[teacher] * vector[key] for teacher, vector in vectors.items())
        for key, value in start.items()
    }


def _norm(vector: State) -> float:
    return float(torch.stack([value.norm() for value in vector.values()]).norm())
