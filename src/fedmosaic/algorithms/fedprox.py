"""Run FedProx: FedAvg with a proximal term that keeps local training near what was received."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import adapter_parameters
from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.training.loss import answer_loss, proximal_term


class FedProx(FedAvg):
    """Add to FedAvg's local loss a proximal term towards the received θ^t.

        F_i(θ) + μ/2 ‖θ − θ^t‖²

    θ are the adapter's A and B. In the first round θ^t is the common start. μ = 0 is FedAvg.

    - Up and down: as :class:`FedAvg`.

    Source: Li et al. 2020 (arXiv 1812.06127), eq. 2 and Algorithm 2.

    Differences from the paper:

    - All clients take the same number of local steps, rather than a varying one.
    - Clients are weighted by samples in the average, as in FedAvg.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "fedprox"
    summary: ClassVar[str] = "FedAvg with a proximal term towards what was received"
    paper: ClassVar[str] = "Li et al. 2020 (arXiv 1812.06127)"

    class Options(FedAvg.Options):
        """Hold the settings of FedProx."""

        mu: float = Field(default=0.01, ge=0)
        """μ, weight of the proximal term."""

    def train(self, client: Client) -> FitReport:
        trained = adapter_parameters(client.model, "local")
        received = {name: parameter.detach().clone() for name, parameter in trained.items()}

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            value = answer_loss(model, backbone, batch)
            term: Tensor = self.options.mu * proximal_term(trained, received)
            return value + term

        return client.fit(self.steps, loss=loss)
