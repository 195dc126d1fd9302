"""Run RoLoRA: rounds alternate between B and A, and what is trained alone is averaged exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fedmosaic.adapters import adapter_parameters, write_state
from fedmosaic.adapters.keys import TensorKey
from fedmosaic.algorithms.base import Client, FitReport, Member, Server
from fedmosaic.algorithms.common.average import average, averaged
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message


class RoLoRA(FedAvg):
    """Train and average B in odd rounds and A in even ones, while the other is frozen.

        odd rounds:   B ← Σ_i w_i B_i,   so that   s·B A = Σ_i w_i s·B_i A
        even rounds:  A ← Σ_i w_i A_i,   so that   s·B A = Σ_i w_i s·B A_i,   w_i = n_i / Σ_j n_j

    Rounds are counted from 1. B is zero at the start, so that A could not learn anything first. The
    frozen matrix is the same for all clients of an architecture, therefore the average is exact.

    - Up: B_i in odd rounds, A_i in even ones.
    - Down: A and B, each as last averaged.

    Source: Chen et al., NeurIPS 2025 (arXiv 2502.01755), the section on RoLoRA and its Algorithm 1.

    Differences from the paper:

    - Both matrices travel down, so that a client may miss rounds. The paper's clients miss none and
      get the one that was averaged.
    - Clients count by their samples. The paper's mean is uniform.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "rolora"
    summary: ClassVar[str] = "LoRA's B and A trained and averaged in turn, one a round"
    paper: ClassVar[str] = "RoLoRA, NeurIPS 2025 (arXiv 2502.01755)"
    alternates: ClassVar[tuple[str, ...]] = ("B", "A")

    # --- client half ------------------------------------------------------------------------------
    def receive(self, client: Client, download: Message) -> None:
        write_state(client.model, "local", download.tensors, partial=True)

    def train(self, client: Client) -> FitReport:
        parameters = adapter_parameters(client.model, "local")
        for key, parameter in parameters.items():
            parameter.requires_grad_(TensorKey.parse(key).parameter == self._trained(client.round))
        try:
            return client.fit(self.steps)
        finally:
            for parameter in parameters.values():
                parameter.requires_grad_(True)

    def _trained(self, number: int) -> str:
        """Return the parameter that a round trains, counted from 0."""
        return self.alternates[number % len(self.alternates)]

    # --- server half ------------------------------------------------------------------------------
    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        trim = self.scenario.defences.trim
        average(server, updates, kind=self._trained(server.round), trim=trim)

    def download(self, server: Server, member: Member) -> Message:
        found = [averaged(server, member.architecture, kind) for kind in self.alternates]
        return Message({key: value for part in found for key, value in part.items()})
