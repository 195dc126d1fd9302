"""FedMKT: on each public example every client learns from the other that knows the answer best, if it knows it better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.public_predictions import PublicExchange, as_tensors
from fedmosaic.algorithms.common.token_bridge import Script, blend
from fedmosaic.algorithms.message import Message
from fedmosaic.training.distil import Predictions, distillation_loss, spoken


class FedMKT(PublicExchange):
    """Mutual knowledge transfer with DualMinCE, every client a peer. A client's turn in a round is

        1.  λ CE(public batch) + (1 − λ) T² KL(p_{k*} ‖ p_i),   the second term over the examples with l_{k*} < l_i
        2.  CE(private batch)
        3.  upload of l_i = −log p_i(answer) and of the ``top_k`` likeliest tokens at each answer position

    where the server chose, for each public example, k* = argmin_{k≠i} l_k among the other clients.

    The paper's server has a large model of its own that stands between the clients. Here, as in FedMosaic's comparison (arXiv
    2506.11024), it has none: every client is a peer, and the two selections of DualMinCE (the best of the others; better than
    oneself) are made for each of them. Tokens are aligned by text spans and
    vocabulary instead of by edit distance; a position without a counterpart has no distillation term (the paper's one-hot
    target there is what the first term has already). l is the sum over an answer's tokens, not their mean, which would depend
    on how a vocabulary cuts the answer.

    Source: Fan et al. 2025 (COLING; arXiv 2406.02224), eq. 6, 8 and 10, Algorithms 1 and 2; λ, K and the one pass: appendices C and D.
    """

    name: ClassVar[str] = "fedmkt"
    summary: ClassVar[str] = "each public example is learned from the client that answers it best"
    paper: ClassVar[str] = "Fan et al. 2025 (COLING; arXiv 2406.02224)"

    class Options(PublicExchange.Options):
        """``label_weight``: λ. ``public_steps``: steps on public batches a round, None: one pass over the public examples."""

        top_k: int = Field(default=16, ge=1)
        label_weight: float = Field(default=0.9, ge=0, le=1)
        public_steps: int | None = Field(default=None, ge=1)

    def train(self, client: Client) -> FitReport:
        lesson = self.taught(client)
        if not lesson:
            return client.fit(self.steps)
        batches = self.batches(client)
        better = (lesson["losses"] < client.state["losses"]).repeat_interleave(batches.counts)
        taught = Predictions(lesson["probabilities"] * better[:, None], lesson["tokens"])

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            logits, labels = spoken(model, backbone, batch)
            distilled = distillation_loss(logits, taught.at(batches.rows), self.options.temperature)
            return torch.lerp(
                distilled, functional.cross_entropy(logits, labels), self.options.label_weight
            )

        public = client.fit(
            self.options.public_steps or batches.steps, loss=loss, examples=batches.draw
        )
        return client.fit(self.steps).add_work(public)

    def upload(self, client: Client) -> Message:
        predictions, losses = self.speak(client)
        client.state["losses"] = losses
        return Message({**as_tensors(predictions), "losses": losses})

    def lesson(
        self, heard: Sequence[Predictions], sent: Sequence[Mapping[str, Tensor]], target: Script
    ) -> Mapping[str, Tensor]:
        losses, best = torch.stack([tensors["losses"] for tensors in sent]).min(0)
        chosen = [
            Predictions(said.probabilities * (best == index)[target.example, None], said.tokens)
            for index, said in enumerate(heard)
        ]
        return {
            **as_tensors(blend(chosen, target.vocabulary, self.options.top_k)),
            "losses": losses,
        }
