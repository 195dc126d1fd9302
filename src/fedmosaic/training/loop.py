"""The local training loop: one optimiser step a batch, with hooks for what an algorithm adds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.errors import FedMosaicError, TrainingError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.training.loss import answer_loss
from fedmosaic.training.optimiser import Optimiser, schedule_factor

Loss = Callable[[Any, Backbone, Batch], Tensor]
StepHook = Callable[[int, Sequence[Example]], None]


@dataclass
class FitReport:
    """What one local training did: steps, mean loss, labelled tokens and where the seconds went.

    The parts of ``seconds``: data (stream, rendering, batching), tower (pictures seen for the first time), compute (forward,
    backward, optimiser), hook (what the algorithm adds to a step).
    """

    steps: int = 0
    loss: float = 0.0
    samples: int = 0
    tokens: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: {"data": 0.0, "tower": 0.0, "compute": 0.0, "hook": 0.0}
    )

    def beside(self, other: FitReport) -> FitReport:
        """This training with the work of another added to its own; the loss stays this one's."""
        seconds = {part: value + other.seconds[part] for part, value in self.seconds.items()}
        samples, tokens = self.samples + other.samples, self.tokens + other.tokens
        return FitReport(self.steps + other.steps, self.loss, samples, tokens, seconds)


def fit(
    model: Any,
    backbone: Backbone,
    optimiser: Optimiser,
    next_examples: Callable[[], Sequence[Example]],
    steps: int,
    *,
    dropout_seed: int,
    first_step: int = 0,
    total_steps: int = 0,
    loss: Loss = answer_loss,
    each_step: StepHook | None = None,
) -> FitReport:
    """Train for ``steps`` optimiser steps.

    Args:
        next_examples: gives the examples of the next batch.
        dropout_seed: seeds torch's global generator, which dropout draws from, so that a resumed run drops the same units.
        first_step, total_steps: the place in the whole run, for the learning-rate schedule.
        loss: from model, backbone and batch to a scalar.
        each_step: called with the step number and the examples before their optimiser step.

    Raises:
        TrainingError: the loss is not finite (learning rate too high, or broken weights).
        FedMosaicError: the device's memory is full.
    """
    report = FitReport()
    losses: list[Tensor] = []
    model.train()
    with torch.random.fork_rng(devices=_cuda_devices(backbone)):
        torch.manual_seed(dropout_seed)
        for step in range(steps):
            started, seen = time.perf_counter(), _tower_seconds(backbone)
            examples = next_examples()
            batch = backbone.collate([backbone.encode(example) for example in examples])
            collated = time.perf_counter()
            looking = _tower_seconds(backbone) - seen
            if each_step is not None:
                each_step(step, examples)
            hooked = time.perf_counter()
            try:
                value = loss(model, backbone, batch)
                value.backward()
                optimiser.step(schedule_factor(optimiser.settings, first_step + step, total_steps))
            except torch.OutOfMemoryError as error:
                raise FedMosaicError(
                    f"the device is out of memory with {backbone.name}: use a smaller train.batch_size, "
                    "models.gradient_checkpointing=true, models.dtype=bfloat16 or models.quantise=4bit"
                ) from error
            losses.append(value.detach())
            report.samples += len(examples)
            report.tokens += batch.labels.numel()
            report.seconds["data"] += collated - started - looking
            report.seconds["tower"] += looking
            report.seconds["hook"] += hooked - collated
            report.seconds["compute"] += time.perf_counter() - hooked
    model.eval()
    report.steps = steps
    if losses:
        report.loss = float(torch.stack(losses).mean())
        if not torch.isfinite(torch.stack(losses)).all():
            raise TrainingError(
                "the training loss is not finite; lower train.lr and train.lr_shared, or use dtype=float32"
            )
    return report


def _tower_seconds(backbone: Backbone) -> float:
    return backbone.tower.seconds if backbone.tower else 0.0


def _cuda_devices(backbone: Backbone) -> list[torch.device]:
    return [backbone.device] if backbone.device.type == "cuda" else []
