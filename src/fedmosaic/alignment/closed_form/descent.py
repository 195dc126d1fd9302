"""A by gradient descent, as the paper finds it: a reference for the closed forms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedmosaic.alignment.closed_form.moments import Matched
from fedmosaic.alignment.closed_form.solve import nearest_orthonormal

LEARNING_RATE = 5e-5
BATCH = 4


class Descent:
    """min over A of Σ ‖A x − z‖² by AdamW, one pass, then the nearest orthonormal rows.

    The loss of a step is the mean of (A x − z)² over the matched tokens of the next ``batch`` examples and the r coordinates. Source:
    FedMosaic (arXiv 2506.11024), alignment of A; learning rate and batch are those of the authors' code, which sees 5,000
    examples.

    Args:
        before: ``{site}.A`` [r, d_in] to start from.
        lr: constant. batch: examples of one step.
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

    def update(self, matched: Matched) -> None:
        """Take the next examples; a step is made whenever there are enough of them."""
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
        """A of a site [r, d_in], float64, with orthonormal rows."""
        return nearest_orthonormal(self.maps[key].detach())
