"""Run FedMKT: each public example is learned from the client that answers it best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.public_predictions import PublicExchange, as_tensors
from fedmosaic.algorithms.common.token_bridge import TokenizedPublicSet, blend
from fedmosaic.algorithms.message import Message
from fedmosaic.training.distil import Predictions, distillation_loss, label_logits


class FedMKT(PublicExchange):
    """Transfer knowledge mutually with DualMinCE, every client a peer.

    A client's turn in a round is

        1.  λ CE(public batch) + (1 − λ) T² KL(p_{k*} ‖ p_i),   the second term where l_{k*} < l_i
        2.  CE(private batch)
        3.  upload of l_i and p_i

    with l_i = −log p_i(answer) of each public example. For each public example the server chose
    k* = argmin_{k≠i} l_k among the other clients.

    - Up: l_i, and p_i at each answer position by its ``top_k`` likeliest tokens.
    - Down: l_{k*} and p_{k*} in the client's own tokens.

    Source: Fan et al. 2025 (COLING; arXiv 2406.02224), eq. 6, 8 and 10, Algorithms 1 and 2; λ, K
    and the one pass: appendices C and D.

    Differences from the paper:

    - The paper's server has a large model of its own between the clients. Here it has none, as in
      FedMosaic's comparison (arXiv 2506.11024): every client is a peer, and both selections of
      DualMinCE (the best of the others; better than oneself) are made for each.
    - Tokens are aligned by text spans and vocabulary instead of by edit distance.
    - A position without a counterpart has no distillation term. The paper's one-hot target there is
      what the first term already has.
    - l is the sum over an answer's tokens, not their mean, which would depend on how a vocabulary
      cuts the answer.
    """

    name: ClassVar[str] = "fedmkt"
    summary: ClassVar[str] = "each public example is learned from the client that answers it best"
    paper: ClassVar[str] = "Fan et al. 2025 (COLING; arXiv 2406.02224)"

    class Options(PublicExchange.Options):
        """Hold the settings of FedMKT."""

        top_k: int = Field(default=16, ge=1)
        """Number of tokens of each prediction that travel."""
        label_weight: float = Field(default=0.9, ge=0, le=1)
        """λ, weight of the labels against the distillation."""
        public_steps: int | None = Field(default=None, ge=1)
        """Steps on public batches per round; None: one pass over the public examples."""

    def train(self, client: Client) -> FitReport:
        targets = self.take_targets(client)
        if not targets:
            return client.fit(self.steps)
        batches = self.batches(client)
        better = (targets["losses"] < client.state["losses"]).repeat_interleave(batches.counts)
        chosen = Predictions(targets["probabilities"] * better[:, None], targets["tokens"])

        def loss(model: Any, backbone: Any, batch: Any) -> Tensor:
            logits, labels = label_logits(model, backbone, batch)
            here = chosen.at(batches.rows)
            distilled = distillation_loss(logits, here, self.options.temperature)
            entropy = functional.cross_entropy(logits, labels)
            return torch.lerp(distilled, entropy, self.options.label_weight)

        steps = self.options.public_steps or batches.steps
        public = client.fit(steps, loss=loss, examples=batches.draw)
        return client.fit(self.steps).add_work(public)

    def upload(self, client: Client) -> Message:
        predictions, losses = self.predict(client)
        client.state["losses"] = losses
        return Message({**as_tensors(predictions), "losses": losses})

    def targets(
        self,
        peer_predictions: Sequence[Predictions],
        peer_updates: Sequence[Mapping[str, Tensor]],
        public: TokenizedPublicSet,
    ) -> Mapping[str, Tensor]:
        losses, best = torch.stack([update["losses"] for update in peer_updates]).min(0)
        chosen = []
        for index, found in enumerate(peer_predictions):
            is_best = (best == index)[public.example, None]
            chosen.append(Predictions(found.probabilities * is_best, found.tokens))
        blended = blend(chosen, public.vocabulary, self.options.top_k)
        return {**as_tensors(blended), "losses": losses}
