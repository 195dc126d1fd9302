"""Compute A by gradient descent as in the paper, to compare the closed form with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedmosaic.alignment.closed_form.moments import MatchedBatch
from fedmosaic.alignment.closed_form.solve import nearest_orthonormal

LEARNING_RATE = 5e-5
BATCH = 4


class Descent:
    """Minimise Σ ‖A x − z‖² over A by AdamW in one pass, then take the nearest orthonormal rows.

    The loss of a step is the mean of (A x − z)² over the matched tokens of the next ``batch``
    examples and the r coordinates. Source: FedMosaic (arXiv 2506.11024), alignment of A. Learning
    rate and batch are those of the authors' code, which uses 5,000 examples.

    Args:
        before: ``{site}.A`` [r, d_in] to start from.
        lr: constant learning rate.
        batch: examples in one step.
    """

    def __init__(
        self, before: Mapping[str, Tensor], lr: float = LEARNING_RATE, batch: int = BATCH
    ) -> None:
        self.maps = {
            name.removesuffix(".A"): value.detach().float().clone().requires_grad_()
            for name, value in before.items()
            if name.endswith(".A")
        }
        self.batch = batch
        self.optimiser = torch.optim.AdamW(self.maps.values(), lr=lr, weight_decay=0.0)
        self.waiting: dict[str, list[list[Tensor]]] = {key: [[], []] for key in self.maps}
        self.examples = 0

    def update(self, matched: MatchedBatch) -> None:
        """Add the next examples, and make a step whenever there are enough of them."""
        rows = {key: matched.rows(key, "input") for key in self.maps}
        start = 0
        for count in matched.counts:
            for key, sides in rows.items():
                for waiting, side in zip(self.waiting[key], sides, strict=True):
                    waiting.append(side[start : start + count])
            start += count
            self.examples += 1
            if self.examples % self.batch == 0:
                self._step()

    def _step(self) -> None:
        loss = torch.zeros(())
        for key, sides in self.waiting.items():
            x, z = (torch.cat(side).to("cpu", torch.float32) for side in sides)
            if len(x):
                loss = loss + (x @ self.maps[key].t() - z).square().mean()
        if loss.requires_grad:
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        self.waiting = {key: [[], []] for key in self.maps}

    def solve(self, key: str) -> Tensor:
        """Return A of a site [r, d_in] in float64, with orthonormal rows."""
        return nearest_orthonormal(self.maps[key].detach())
