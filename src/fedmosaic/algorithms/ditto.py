"""Run Ditto: every client also trains a personal adapter, held near the federated one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.dual import Dual
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.loss import answer_loss, proximal_term


class Ditto(Dual):
    """Train a federated and a personal adapter on the same batches, from the received w^t.

        w_i ← steps on F_i(w)                            uploaded and averaged as in FedAvg
        v_i ← steps on F_i(v) + λ/2 ‖v − w^t‖²           personal, used by client i

    with v_i = w^0 at the start. The two trainings meet only in w^t.

    - Up: w_i.
    - Down: the average w of the client's architecture.

    Source: Li et al. 2021 (arXiv 2012.04221), Algorithm 1.

    Differences from the paper:

    - One step trains both adapters on one batch and costs two steps of local training. With equal
      compute each training has half the steps.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "ditto"
    summary: ClassVar[str] = (
        "a personal adapter trained with a proximal term towards the averaged one"
    )
    paper: ClassVar[str] = "Li et al. 2021 (arXiv 2012.04221)"

    class Options(Dual.Options):
        """Hold the settings of Ditto."""

        lam: float = Field(default=1.0, ge=0)
        """λ, weight of the proximal term."""

    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        model = super().build(backbone, public, alignment)
        write_state(model, "global", read_state(model, "local"))
        return model

    def train(self, client: Client) -> FitReport:
        personal = adapter_parameters(client.model, "local")
        received = read_state(client.model, "global")

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            activate(model, {"global": 1.0}, train=("global",))
            answer_loss(model, backbone, batch).backward()
            activate(model, {"local": 1.0}, train=("local",))
            value = answer_loss(model, backbone, batch)
            term: Tensor = self.options.lam * proximal_term(personal, received)
            return value + term

        return client.fit(self.steps, loss=loss)
