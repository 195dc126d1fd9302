"""FedSim: a shared and a personal adapter, added up and trained together; the shared one is averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.dual import Dual


class FedSim(Dual):
    """Partial personalisation with simultaneous updates: shared u, personal v_i, and

        h = W x + s B_u A_u x + s B_v A_v x,        (u, v_i) ← steps on F_i(u, v_i),        u ← Σ_i (n_i / Σ_j n_j) u_i

    with the average over the clients of one architecture. Both start from different random A, else they would stay equal until the
    first average.

    Source: Pillutla et al. 2022 (arXiv 2204.03809), FedSim, with adapters for both parts.
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
