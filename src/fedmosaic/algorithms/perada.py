"""Run PerAda: Ditto's clients, and a server that distils their ensemble on public examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Loss, Server, fit
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.average import MEAN, averaged, taking_part
from fedmosaic.algorithms.common.lora import parameter_groups
from fedmosaic.algorithms.ditto import Ditto
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.training.distil import PublicBatches, label_logits
from fedmosaic.training.loss import kl_divergence
from fedmosaic.training.optimiser import Optimiser


class PerAda(Ditto):
    """Distil the ensemble of Ditto's uploaded adapters into their average.

    From the received w^t on, client i trains

        v_i: F_i(v) + λ/2 ‖v − w^t‖²    (personal)        θ_i: F_i(θ)    (uploaded)

    and the server distils, for each architecture over its clients S of the round,

        w^{t+1} ≈ argmin_w  T² KL( softmax(1/|S| Σ_{i∈S} z_{θ_i} / T) ‖ softmax(z_w / T) )

    from w = Σ_i (n_i / Σ_j n_j) θ_i on, by ``server_steps`` AdamW steps on public examples, with
    the KL taken where an answer's tokens are predicted. Dropout is off on the server.

    - Up: θ_i.
    - Down: w of the client's architecture.

    Source: Xie et al. 2024 (CVPR; arXiv 2302.06637), Algorithm 1; mean of logits, T = 1 and λ = 1:
    the authors' code.

    Differences from the paper:

    - With one client of an architecture in the round, its adapter is the ensemble and nothing is
      distilled.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "perada"
    summary: ClassVar[str] = (
        "Ditto with the averaged adapter refined by ensemble distillation on public examples"
    )
    paper: ClassVar[str] = "Xie et al. 2024 (CVPR; arXiv 2302.06637)"
    needs_public: ClassVar[bool] = True
    trims: ClassVar[bool] = False

    class Options(Ditto.Options):
        """Hold the settings of the distillation on the server."""

        server_steps: int = Field(default=50, ge=0)
        """Steps per round and architecture, of ``train.batch_size`` public examples; 0: average."""
        server_lr: float | None = Field(default=None, gt=0)
        """Learning rate on the server; None: ``train.lr``."""
        temperature: float = Field(default=1.0, gt=0)
        """T, temperature of both softmaxes."""

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        super().aggregate(server, updates)
        for architecture, members in taking_part(server, updates).items():
            if len(members) > 1 and self.options.server_steps:
                teachers = [updates[member.name].tensors for member in members]
                distilled = self._distil(server, architecture, teachers)
                server.state.put(StateKey(MEAN, architecture), distilled)

    def _distil(
        self, server: Server, architecture: str, teachers: Sequence[Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """Return the average after distillation of the teachers' ensemble."""
        options, train = self.options, self.scenario.train
        settings = train.model_copy(update={"lr": options.server_lr or train.lr})
        backbone = server.backbone(architecture)
        student = self.build(backbone, server.public())
        write_state(student, "global", averaged(server, architecture))
        # Names the draw; published runs depend on it.
        draw = server.generator(f"public batches of {backbone.identity}")
        batches = PublicBatches(backbone, server.public(), train.batch_size, draw)
        fit(
            student,
            backbone,
            Optimiser(parameter_groups(student, "global"), settings),
            batches.draw,
            options.server_steps,
            dropout_seed=0,
            first_step=server.round * options.server_steps,
            total_steps=self.scenario.rounds * options.server_steps,
            loss=self._ensemble_loss(teachers),
        )
        return read_state(student, "global")

    def _ensemble_loss(self, teachers: Sequence[Mapping[str, Tensor]]) -> Loss:
        """Return the divergence of ``global`` from the mean of the teachers' logits."""

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            model.eval()
            with torch.no_grad():
                activate(model, {"local": 1.0})
                ensemble = torch.zeros(())
                for state in teachers:
                    write_state(model, "local", state)
                    logits, _ = label_logits(model, backbone, batch)
                    ensemble = logits / len(teachers) + ensemble.to(logits)
            activate(model, {"global": 1.0}, train=("global",))
            logits, _ = label_logits(model, backbone, batch)
            return kl_divergence(logits, ensemble, self.options.temperature)

        return loss
