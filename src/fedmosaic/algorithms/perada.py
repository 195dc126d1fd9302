"""PerAda: Ditto's clients, and a server that distils their ensemble into the averaged adapter on public examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Server, fit
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.average import averaged, taking_part
from fedmosaic.algorithms.common.lora import parameter_groups
from fedmosaic.algorithms.ditto import Ditto
from fedmosaic.algorithms.message import Message
from fedmosaic.training.distil import PublicBatches, spoken
from fedmosaic.training.loss import kl_divergence
from fedmosaic.training.optimiser import Optimiser


class PerAda(Ditto):
    """From the received w^t on, client i trains

        v_i: F_i(v) + λ/2 ‖v − w^t‖²    (personal)        θ_i: F_i(θ), from w^t on    (uploaded)

    and the server distils, for each architecture over its clients of the round,

        w^{t+1} ≈ argmin_w  T² KL( softmax(1/|S| Σ_i z_{θ_i} / T) ‖ softmax(z_w / T) ),      from w = Σ_i (n_i / Σ_j n_j) θ_i on

    by ``server_steps`` AdamW steps on public examples, with the KL taken where an answer's tokens are predicted. With one client of
    an architecture in the round its adapter is the ensemble and there is nothing to distil. Dropout is off on the server.

    Source: Xie et al. 2024 (CVPR; arXiv 2302.06637), Algorithm 1; mean of logits, T = 1 and λ = 1: the authors' code.
    """

    name: ClassVar[str] = "perada"
    summary: ClassVar[str] = (
        "Ditto with the averaged adapter refined by ensemble distillation on public examples"
    )
    paper: ClassVar[str] = "Xie et al. 2024 (CVPR; arXiv 2302.06637)"
    needs_public: ClassVar[bool] = True

    class Options(Ditto.Options):
        """Distillation on the server.

        Attributes:
            server_steps: steps a round and architecture, of ``train.batch_size`` public examples; 0 averages only.
            server_lr: learning rate, None: ``train.lr``. temperature: T.
        """

        server_steps: int = Field(default=50, ge=0)
        server_lr: float | None = Field(default=None, gt=0)
        temperature: float = Field(default=1.0, gt=0)

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        super().aggregate(server, updates)
        for architecture, members in taking_part(server, updates).items():
            if len(members) > 1 and self.options.server_steps:
                teachers = [updates[member.name].tensors for member in members]
                server.state.put(
                    f"mean@{architecture}",
                    architecture,
                    self._distilled(server, architecture, teachers),
                )

    def _distilled(
        self, server: Server, architecture: str, teachers: Sequence[Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        options, train = self.options, self.scenario.train
        settings = train.model_copy(update={"lr": options.server_lr or train.lr})
        backbone = server.backbone(architecture)
        student = self.built(backbone, server.public())
        write_state(student, "global", averaged(server, architecture))
        draw = server.generator(f"public batches of {backbone.identity}")
        batches = PublicBatches(backbone, server.public(), train.batch_size, draw)

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            model.eval()
            with torch.no_grad():
                activate(model, {"local": 1.0})
                ensemble = torch.zeros(())
                for state in teachers:
                    write_state(model, "local", state)
                    logits, _ = spoken(model, backbone, batch)
                    ensemble = logits / len(teachers) + ensemble.to(logits)
            activate(model, {"global": 1.0}, train=("global",))
            logits, _ = spoken(model, backbone, batch)
            return kl_divergence(logits, ensemble, options.temperature)

        fit(
            student,
            backbone,
            Optimiser(parameter_groups(student, "global"), settings),
            batches.draw,
            options.server_steps,
            dropout_seed=0,
            first_step=server.round * options.server_steps,
            total_steps=self.scenario.rounds * options.server_steps,
            loss=loss,
        )
        return read_state(student, "global")
