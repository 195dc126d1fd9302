"""FedDistill (federated distillation): each client trains on its own data and towards what the others say on public examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.public_predictions import PublicExchange, as_tensors
from fedmosaic.algorithms.common.token_bridge import Script, blend
from fedmosaic.training.distil import Predictions, distillation_loss, spoken
from fedmosaic.training.loss import answer_loss


class FedDistill(PublicExchange):
    """The mean of the other clients' predictions regularises each local step:

        θ_i ← θ_i − η ∇[ CE(private batch) + γ T² KL( 1/(N−1) Σ_{j≠i} p_j ‖ p_i ) ],   p = softmax(z/T)

    The second term is over a batch of the public examples. The original sends the mean output for each class label of the private
    data. A language model has no fixed classes (its labels are tokens in a context), so that predictions are exchanged for each
    answer position of public examples instead, the form that model-agnostic successors use (FedMD, Li & Wang 2019). What is the
    original's is kept: outputs after the softmax are averaged, one's own left out, and distilled in every local step.

    A step costs a public batch beside the private one. Alone in the federation a client trains as with SFT.

    Source: Jeong et al. 2018 (arXiv 1811.11479), section 2 and Algorithm 1.
    """

    name: ClassVar[str] = "feddistill"
    summary: ClassVar[str] = (
        "local training towards the mean of the others' predictions on public examples"
    )
    paper: ClassVar[str] = "Jeong et al. 2018 (arXiv 1811.11479)"

    class Options(PublicExchange.Options):
        """``weight``: γ of the distillation term."""

        weight: float = Field(default=1.0, ge=0)

    def train(self, client: Client) -> FitReport:
        lesson = self.taught(client)
        if not lesson:
            return client.fit(self.steps)
        taught, batches = Predictions(**lesson), self.batches(client)

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            public = backbone.collate([backbone.encode(example) for example in batches.draw()])
            logits, _ = spoken(model, backbone, public)
            distilled = distillation_loss(logits, taught.at(batches.rows), self.options.temperature)
            whole: Tensor = answer_loss(model, backbone, batch) + self.options.weight * distilled
            return whole

        return client.fit(self.steps, loss=loss)

    def lesson(
        self, heard: Sequence[Predictions], sent: Sequence[Mapping[str, Tensor]], target: Script
    ) -> Mapping[str, Tensor]:
        return as_tensors(blend(heard, target.vocabulary, self.options.top_k))
