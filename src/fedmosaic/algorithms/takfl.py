"""TAKFL: FedAvg within each architecture, then every architecture learns from every other one separately, by task arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Server, fit
from fedmosaic.algorithms.common.token_bridge import Bridges, blend
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.alignment.correspondence.vocabulary import vocabulary_size
from fedmosaic.config import Scenario
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.training.distil import Predictions, PublicBatches, distillation_loss, predict, spoken
from fedmosaic.training.optimiser import Optimiser

State = Mapping[str, Tensor]


class TAKFL(FedAvg):
    """Task arithmetic of knowledge that is distilled between device prototypes, which here are architectures.

    After a round the server has, for each prototype i, the average θ_i of its clients (FedAvg) and the ensemble z_i, the mean of
    their logits. On public examples it distils each ensemble j into each student i by itself, starting from θ_i, and adds up
    what came of it:

        L_ij = T² KL( softmax(z_j/T) ‖ softmax(z/T) ) + γ T_s² KL( softmax(z_{θ_i}/T_s) ‖ softmax(z/T_s) )
        τ_ij = argmin L_ij − θ_i,      θ_i ← θ_i + Σ_j λ_ij τ_ij,      Σ_j λ_ij = 1

    The second term holds the student near where it started (self-regularisation). A prototype of which one client took part has
    itself for an ensemble: nothing to learn there, τ_ii = 0. Prototypes of which none took part neither teach nor learn.

    λ is 1/M for each of M prototypes, or with ``candidates`` the best of some weightings by mean −log p(answer) on the public
    examples: the uniform one and random ones that favour larger prototypes, drawn as in the authors' experiments.

    Source: Morafah et al. 2024 (NeurIPS; arXiv 2409.18461), section 5; T, T_s and the draw of λ: the authors' experiments.
    """

    name: ClassVar[str] = "takfl"
    summary: ClassVar[str] = (
        "FedAvg within architectures, task arithmetic of distilled knowledge between them"
    )
    paper: ClassVar[str] = "Morafah et al. 2024 (NeurIPS; arXiv 2409.18461)"
    needs_public: ClassVar[bool] = True

    class Options(FedAvg.Options):
        """Settings of the distillation on the server.

        Attributes:
            temperature: T. self_temperature: T_s. self_weight: γ, 0 for none.
            public_steps: steps for each teacher and student a round, None: one pass over the public examples.
            top_k: tokens by which a prediction is told. candidates: random λ tried besides the uniform one.
        """

        temperature: float = Field(default=3.0, gt=0)
        self_temperature: float = Field(default=20.0, gt=0)
        self_weight: float = Field(default=1.0, ge=0)
        public_steps: int | None = Field(default=None, ge=1)
        top_k: int = Field(default=256, ge=1)
        candidates: int = Field(default=0, ge=0)

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
        super().__init__(options, scenario, seed)
        self.bridges = Bridges()

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        super().aggregate(server, updates)
        groups: dict[str, list[State]] = {}
        for member in server.members:
            if member.name in updates:
                groups.setdefault(member.architecture, []).append(updates[member.name].tensors)
        prototypes = {name: Prototype(self, server, name) for name in groups}
        ensembles = {
            name: prototypes[name].predict(states, self.options.temperature)
            for name, states in groups.items()
        }
        report: dict[str, Any] = {}
        mapped: dict[str, float] = {}
        for name, student in prototypes.items():
            start = server.state.get(f"mean@{name}", name)
            own = student.predict([start], self.options.self_temperature)
            vectors: dict[str, State] = {}
            for teacher, said in ensembles.items():
                if teacher != name or len(groups[name]) > 1:
                    bridge = self.bridges.between(server, teacher, name)
                    carried = bridge.carry(said)
                    mapped[f"{teacher} -> {name}"] = bridge.matched * carried.mapped
                    taught = blend(
                        [carried.predictions], vocabulary_size(student.backbone), self.options.top_k
                    )
                    learned = student.learn(start, own, taught, teacher)
                    vectors[teacher] = {key: learned[key] - value for key, value in start.items()}
            weights = self._weights(server, student, start, vectors, list(groups))
            server.state.put(f"mean@{name}", name, _add(start, vectors, weights))
            norms = {
                teacher: float(torch.stack([v.norm() for v in vector.values()]).norm())
                for teacher, vector in vectors.items()
            }
            report[name] = {"weights": weights, "norms": norms}
        server.report.update(task_vectors=report, mapped=mapped)

    def _weights(
        self,
        server: Server,
        student: Prototype,
        start: State,
        vectors: Mapping[str, State],
        teachers: Sequence[str],
    ) -> dict[str, float]:
        """λ of each teacher: uniform, or of several candidates the one with the least loss on the public examples."""
        tried = [dict.fromkeys(teachers, 1 / len(teachers))]
        if not self.options.candidates:
            return tried[0]
        sizes = {
            name: sum(p.numel() for p in server.backbone(name).model.parameters())
            for name in teachers
        }
        smallest_first = sorted(teachers, key=lambda name: sizes[name])
        noise = server.generator(f"weights of {student.backbone.identity}")
        for index in range(self.options.candidates):
            draw = 1 - (1 - torch.rand(len(teachers), generator=noise, dtype=torch.float64)) ** (
                1 / 100
            )  # Beta(1, 100)
            shares = (draw ** (1, 5, 10)[index % 3]).sort().values
            tried.append(dict(zip(smallest_first, (shares / shares.sum()).tolist(), strict=True)))
        return min(tried, key=lambda weights: student.loss(_add(start, vectors, weights)))


class Prototype:
    """An architecture's model on the server; any client's weights can be put into it."""

    def __init__(self, algorithm: TAKFL, server: Server, name: str) -> None:
        self.algorithm, self.options, self.server = algorithm, algorithm.options, server
        self.backbone = server.backbone(name)
        self.model = algorithm.built(self.backbone, server.public())

    def predict(self, states: Sequence[State], temperature: float) -> Predictions:
        """What an ensemble says of the public examples: the mean of its members' logits, softened."""
        return self._speak(states, temperature)[0]

    def loss(self, state: State) -> float:
        """Mean −log p(answer) on the public examples."""
        return float(self._speak([state], 1.0)[1].mean())

    def learn(self, start: State, own: Predictions, taught: Predictions, teacher: str) -> State:
        """The weights after distillation that begins with ``start`` and is held near ``own``, what that says."""
        options, server, train = self.options, self.server, self.algorithm.scenario.train
        write_state(self.model, "local", start)
        purpose = f"{server.backbone(teacher).identity} teaches {self.backbone.identity}"
        batches = PublicBatches(
            self.backbone, server.public(), train.batch_size, server.generator(purpose)
        )

        def loss(model: Any, backbone: Backbone, batch: Batch) -> Tensor:
            logits, _ = spoken(model, backbone, batch)
            learned = distillation_loss(logits, taught.at(batches.rows), options.temperature)
            held = distillation_loss(logits, own.at(batches.rows), options.self_temperature)
            whole: Tensor = learned + options.self_weight * held
            return whole

        steps = options.public_steps or batches.steps
        fit(
            self.model,
            self.backbone,
            Optimiser(self.algorithm.parameters(self.model), train),
            batches.draw,
            steps,
            dropout_seed=int(
                torch.randint(2**31, (), generator=server.generator(f"{purpose}, dropout"))
            ),
            first_step=server.round * steps,
            total_steps=self.algorithm.scenario.rounds * steps,
            loss=loss,
        )
        return {key: value.cpu() for key, value in read_state(self.model, "local").items()}

    def _speak(self, states: Sequence[State], temperature: float) -> tuple[Predictions, Tensor]:
        def mean_logits(batch: Batch) -> tuple[Tensor, Tensor]:
            total, labels = torch.zeros(()), torch.empty(0)
            for state in states:
                write_state(self.model, "local", state)
                logits, labels = spoken(self.model, self.backbone, batch)
                total = logits + total.to(logits.device)
            return total / len(states), labels

        examples, top_k = self.server.public(), self.options.top_k
        return predict(mean_logits, self.backbone, examples, temperature=temperature, top_k=top_k)


def _add(start: State, vectors: Mapping[str, State], weights: Mapping[str, float]) -> State:
    """θ + Σ_j λ_j τ_j."""
    return {
        key: value + sum(weights[teacher] * vector[key] for teacher, vector in vectors.items())
        for key, value in start.items()
    }
