"""Provide random adapters, batches and formulas for tests of algorithms with two adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tiny_federation import SCENARIO
from torch import Tensor

from fedmosaic.adapters import adapter_parameters
from fedmosaic.models.backbone import Batch
from fedmosaic.training.optimiser import Optimiser

NO_DROPOUT = {**SCENARIO["adapter"], "dropout": 0.0}


@contextmanager
def first_gradients() -> Iterator[dict[int, Tensor]]:
    """Record the gradients of the first optimiser step inside, by the parameter's id."""
    found: dict[int, Tensor] = {}
    step = Optimiser.step

    def watched(self: Optimiser, factor: float) -> None:
        if not found:
            found.update({id(p): p.grad.clone() for p in self.parameters if p.grad is not None})
        step(self, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimiser, "step", watched)
        yield found


@torch.no_grad()
def randomise(model: Any, names: tuple[str, ...]) -> None:
    for seed, name in enumerate(names):
        noise = torch.Generator().manual_seed(seed)
        for parameter in adapter_parameters(model, name).values():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=noise))


def all_label_logits(model: Any, backbone: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits and labels where labels are predicted; logits at t predict t + 1."""
    output = model(**batch.inputs, use_cache=False)
    rows, columns = (batch.labels[:, 1:] != -100).nonzero(as_tuple=True)
    return output.logits[rows, columns], batch.labels[rows, columns + 1]


def batch_of(client: Any, start: int = 0, count: int = 2, answer: bool = True) -> Batch:
    backbone = client.backbone
    examples = client.stream.tasks[0].train[start : start + count]
    found: Batch = backbone.collate([backbone.encode(example, answer) for example in examples])
    return found


def kl(p_logits: Tensor, q_logits: Tensor, temperature: float) -> Tensor:
    """Return T² mean Σ p (log p − log q), written out."""
    p, q = ((z.double() / temperature).softmax(-1) for z in (p_logits, q_logits))
    return temperature**2 * (p * (p.log() - q.log())).sum(-1).mean()
