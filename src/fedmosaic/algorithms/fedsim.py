"""Run FedSim: a shared and a personal adapter are added up and trained together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.dual import Dual


class FedSim(Dual):
    """Train a shared adapter u and a personal one v_i simultaneously; average u.

        h = W x + s B_u A_u x + s B_v A_v x,    (u, v_i) ← steps on F_i(u, v_i),
        u ← Σ_i (n_i / Σ_j n_j) u_i

    with the average over the clients of one architecture.

    - Up and down: u.

    Source: Pillutla et al. 2022 (arXiv 2204.03809), FedSim, with adapters for both parts.

    Differences from the paper:

    - The parts are two LoRA adapters of the same layers, not different layers of a model. They
      start from different random A; otherwise they would stay equal until the first average.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "fedsim"
    summary: ClassVar[str] = (
        "a shared and a personal adapter trained at once, the shared one averaged"
    )
    paper: ClassVar[str] = "Pillutla et al. 2022 (arXiv 2204.03809)"
    mixtures: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "mixed": {"local": 1.0, "global": 1.0},
        "global": {"global": 1.0},
    }
    one_loss: ClassVar[bool] = True

    def train(self, client: Client) -> FitReport:
        activate(client.model, self.mixtures["mixed"], train=("local", "global"))
        return client.fit(self.steps)
