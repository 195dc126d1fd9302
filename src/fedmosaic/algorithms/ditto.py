"""Ditto: beside the federated adapter every client trains its own, held near the federated one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.dual import Dual
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.loss import answer_loss, proximal_term


class Ditto(Dual):
    """Two trainings side by side on the same batches. From the received w^t on,

        w_i ← steps on F_i(w)                            uploaded and averaged as in FedAvg
        v_i ← steps on F_i(v) + λ/2 ‖v − w^t‖²           personal: what client i uses

    with v_i = w^0 at the start. A step trains both, on one batch, and costs two steps of local training: with equal compute each
    training has half the steps. Neither influences the other but through w^t.

    Source: Li et al. 2021 (arXiv 2012.04221), Algorithm 1.
    """

    name: ClassVar[str] = "ditto"
    summary: ClassVar[str] = (
        "a personal adapter trained with a proximal term towards the averaged one"
    )
    paper: ClassVar[str] = "Li et al. 2021 (arXiv 2012.04221)"

    class Options(Dual.Options):
        """``lam``: λ, weight of the proximal term."""

        lam: float = Field(default=1.0, ge=0)

    def build(self, backbone: Backbone, public: Sequence[Example]) -> Any:
        model = super().build(backbone, public)
        write_state(model, "global", read_state(model, "local"))
        return model

    def train(self, client: Client) -> FitReport:
        personal = adapter_parameters(client.model, "local")
        received = read_state(client.model, "global")

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            activate(model, {"global": 1.0}, train=("global",))
            answer_loss(model, backbone, batch).backward()
            activate(model, {"local": 1.0}, train=("local",))
            whole: Tensor = answer_loss(model, backbone, batch) + self.options.lam * proximal_term(
                personal, received
            )
            return whole

        return client.fit(self.steps, loss=loss)
