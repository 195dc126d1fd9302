"""Run FedDistill: each client also trains towards its peers' predictions on public examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.public_predictions import PublicExchange, as_tensors
from fedmosaic.algorithms.common.token_bridge import TokenizedPublicSet, blend
from fedmosaic.training.distil import Predictions, distillation_loss, label_logits
from fedmosaic.training.loss import answer_loss


class FedDistill(PublicExchange):
    """Regularise each local step by the mean of the other clients' predictions.

        θ_i ← θ_i − η ∇[ CE(private batch) + γ T² KL( 1/(N−1) Σ_{j≠i} p_j ‖ p_i ) ]
        p = softmax(z/T)

    The second term is over a batch of the public examples. A step costs a public batch in addition
    to the private one. Alone in the federation a client trains as with SFT.

    - Up: p_i at each answer position of the public examples, by its ``top_k`` likeliest tokens.
    - Down: the mean of the other clients' p_j in the client's own tokens.

    Source: Jeong et al. 2018 (arXiv 1811.11479), section 2 and Algorithm 1.

    Differences from the paper:

    - The paper sends the mean output for each class label of the private data. A language model has
      no fixed classes, so predictions are exchanged for each answer position of public examples, as
      model-agnostic successors do (FedMD, Li & Wang 2019). As in the paper, outputs after the
      softmax are averaged, the client's own is left out, and every local step distils.
    - Predictions are mapped between vocabularies, since clients have different models.
    """

    name: ClassVar[str] = "feddistill"
    summary: ClassVar[str] = (
        "local training towards the mean of the others' predictions on public examples"
    )
    paper: ClassVar[str] = "Jeong et al. 2018 (arXiv 1811.11479)"

    class Options(PublicExchange.Options):
        """Hold the settings of FedDistill."""

        weight: float = Field(default=1.0, ge=0)
        """γ, weight of the distillation term."""

    def train(self, client: Client) -> FitReport:
        received = self.take_targets(client)
        if not received:
            return client.fit(self.steps)
        targets, batches = Predictions(**received), self.batches(client)

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            public = backbone.collate([backbone.encode(example) for example in batches.draw()])
            logits, _ = label_logits(model, backbone, public)
            here = targets.at(batches.rows)
            distilled = distillation_loss(logits, here, self.options.temperature)
            whole: Tensor = answer_loss(model, backbone, batch) + self.options.weight * distilled
            return whole

        return client.fit(self.steps, loss=loss)

    def targets(
        self,
        peer_predictions: Sequence[Predictions],
        peer_updates: Sequence[Mapping[str, Tensor]],
        public: TokenizedPublicSet,
    ) -> Mapping[str, Tensor]:
        return as_tensors(blend(peer_predictions, public.vocabulary, self.options.top_k))
