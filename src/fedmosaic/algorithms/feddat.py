"""Run FedDAT: the averaged adapter and a dual-adapter teacher distil into each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.dual import Dual
from fedmosaic.training.distil import label_logits
from fedmosaic.training.loss import kl_divergence


class FedDAT(Dual):
    """Distil between a dual-adapter teacher (DAT) and the averaged adapter, both ways.

    The received adapter Â_s is kept frozen. Its copy A_s trains on and is averaged within the
    architecture; A_c stays with the client. Teacher and student are

        z_T: h = W x + ½ Â_s(x) + ½ A_c(x)          z_S: h = W x + A_s(x)

    and each step trains both on one batch,

        A_s:  CE(z_S) + β T² KL(softmax(z_T/T) ‖ softmax(z_S/T))
        A_c:  CE(z_T) + β T² KL(softmax(z_S/T) ‖ softmax(z_T/T))

    without a gradient for the side that teaches. The KL is taken where labels are predicted. The
    client uses the teacher.

    - Up: A_s.
    - Down: the average A_s of the client's architecture.

    Source: Chen et al. 2024 (AAAI; arXiv 2308.12305), sections on DAT and mutual knowledge
    distillation; ½, T = 3 and equal weights: the authors' code.

    Differences from the paper:

    - The authors' code runs the teacher twice in a step, to teach and to be taught. Its parameters
      do not change in between, so one pass serves both here.
    - The adapters are LoRA.
    - Clients of different architectures share nothing.
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
        """Hold the settings of the distillation."""

        weight: float = Field(default=1.0, ge=0)
        """β, weight of the distillation terms."""
        temperature: float = Field(default=3.0, gt=0)
        """T, temperature of both softmaxes."""

    def train(self, client: Client) -> FitReport:
        def mutual_loss(own: Tensor, other: Tensor, labels: Tensor) -> Tensor:
            distilled = kl_divergence(own, other, self.options.temperature)
            whole: Tensor = functional.cross_entropy(own, labels) + self.options.weight * distilled
            return whole

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            activate(model, self.mixtures["mixed"], train=("local",))
            teacher, labels = label_logits(model, backbone, batch)
            activate(model, {"global": 1.0}, train=("global",))
            student, _ = label_logits(model, backbone, batch)
            mutual_loss(student, teacher, labels).backward()
            activate(model, self.mixtures["mixed"], train=("local",))
            return mutual_loss(teacher, student, labels)

        return client.fit(self.steps, loss=loss)
