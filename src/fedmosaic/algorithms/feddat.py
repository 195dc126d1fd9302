"""FedDAT: the averaged adapter and a pair of local and received adapter teach one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.dual import Dual
from fedmosaic.training.distil import spoken
from fedmosaic.training.loss import kl_divergence


class FedDAT(Dual):
    """Mutual knowledge distillation with a dual-adapter teacher. The received adapter Â_s is kept frozen; its copy A_s trains on
    and is averaged within the architecture; A_c stays with the client. Teacher (DAT) and student are

        z_T: h = W x + ½ Â_s(x) + ½ A_c(x)          z_S: h = W x + A_s(x)

    and each step trains, on one batch, both of

        A_s:  CE(z_S) + β T² KL(softmax(z_T/T) ‖ softmax(z_S/T))
        A_c:  CE(z_T) + β T² KL(softmax(z_S/T) ‖ softmax(z_T/T))

    where the one that teaches gets no gradient. The KL is taken where labels are predicted. The teacher is what the client uses.
    The authors' code runs the teacher twice in a step, to teach and to be taught; nothing that it consists of changes between, so
    one pass serves both here.

    Source: Chen et al. 2024 (AAAI; arXiv 2308.12305), sections on DAT and MKD; ½, T = 3 and equal weights: the authors' code.
    """

    name: ClassVar[str] = "feddat"
    summary: ClassVar[str] = "dual-adapter teacher and averaged adapter distil into one another"
    paper: ClassVar[str] = "Chen et al. 2024 (AAAI; arXiv 2308.12305)"
    adapters: ClassVar[tuple[str, ...]] = ("local", "global", "received")
    mixtures: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "mixed": {"local": 0.5, "received": 0.5},
        "global": {"global": 1.0},
    }

    class Options(Dual.Options):
        """``weight``: β of the distillation terms. ``temperature``: T."""

        weight: float = Field(default=1.0, ge=0)
        temperature: float = Field(default=3.0, gt=0)

    def train(self, client: Client) -> FitReport:
        def taught(own: Tensor, other: Tensor, labels: Tensor) -> Tensor:
            distilled = kl_divergence(own, other, self.options.temperature)
            whole: Tensor = functional.cross_entropy(own, labels) + self.options.weight * distilled
            return whole

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            activate(model, self.mixtures["mixed"], train=("local",))
            teacher, labels = spoken(model, backbone, batch)
            activate(model, {"global": 1.0}, train=("global",))
            student, _ = spoken(model, backbone, batch)
            taught(student, teacher, labels).backward()
            activate(model, self.mixtures["mixed"], train=("local",))
            return taught(teacher, student, labels)

        return client.fit(self.steps, loss=loss)
