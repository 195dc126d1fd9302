"""Train an adapter on local batches, one optimiser step each, with hooks for algorithms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.errors import FedMosaicError, TrainingError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.training.flops import RepeatedWork
from fedmosaic.training.loss import answer_loss
from fedmosaic.training.optimiser import Optimiser, schedule_factor

Loss = Callable[[Any, Backbone, Batch], Tensor]
"""Compute a scalar loss from a model, its backbone and a batch."""

StepHook = Callable[[int, Sequence[Example]], None]
"""Take the step number and the examples of a batch, before its optimiser step."""


class LocalTraining(NamedTuple):
    """State a plain local training: steps on the client's own stream, by the usual loss.

    Attributes:
        steps: number of optimiser steps.
        each_step: called with the step number and its examples before each optimiser step. It may
            use the client's state, but not its model, which may train for several clients at once.
        at_end: called after the last step; the same holds.
    """

    steps: int
    each_step: StepHook | None = None
    at_end: Callable[[], None] | None = None


@dataclass
class FitReport:
    """Report one local training.

    Attributes:
        steps: Optimiser steps.
        loss: Mean training loss over the steps.
        samples: Examples seen.
        tokens: Tokens of all batches, padding included.
        seconds: Seconds by part: ``data`` (stream, rendering, batching), ``tower`` (features of new
            images), ``compute`` (forward, backward, optimiser), ``hook`` (work that the algorithm
            adds to a step).
    """

    steps: int = 0
    loss: float = 0.0
    samples: int = 0
    tokens: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: {"data": 0.0, "tower": 0.0, "compute": 0.0, "hook": 0.0}
    )

    def add_work(self, other: FitReport) -> FitReport:
        """Return this report with the work of another training added; the loss stays the same."""
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
        model: The model with its adapters.
        backbone: Encodes and batches the examples.
        optimiser: Holds the trained parameters.
        next_examples: Returns the examples of the next batch.
        steps: Number of optimiser steps.
        dropout_seed: Seeds torch's global generator, from which dropout draws, so that a resumed
            run drops the same units.
        first_step: Number of the first step in the whole run, for the learning-rate schedule.
        total_steps: Number of steps of the whole run, for the learning-rate schedule.
        loss: Computes the training loss.
        each_step: Called before every optimiser step.

    Raises:
        TrainingError: the loss is not finite (learning rate too high, or broken weights).
        FedMosaicError: the memory of the device is full.
    """
    report, counted = FitReport(steps=steps), RepeatedWork()
    losses: list[Tensor] = []
    model.train()
    with torch.random.fork_rng(devices=_cuda_devices(backbone)):
        torch.manual_seed(dropout_seed)
        for step in range(steps):
            examples, batch = _next_batch(backbone, next_examples, report)
            started = time.perf_counter()
            if each_step is not None:
                each_step(step, examples)
            hooked = time.perf_counter()
            factor = schedule_factor(optimiser.settings, first_step + step, total_steps)
            losses.append(_optimise(model, backbone, optimiser, batch, loss, factor, counted))
            report.seconds["hook"] += hooked - started
            report.seconds["compute"] += time.perf_counter() - hooked
    model.eval()
    report.loss = _final_loss(losses, report)
    return report


def _next_batch(
    backbone: Backbone, next_examples: Callable[[], Sequence[Example]], report: FitReport
) -> tuple[Sequence[Example], Batch]:
    """Fetch, encode and batch the next examples, and add the work to the report."""
    started, tower_before = time.perf_counter(), tower_seconds(backbone)
    examples = next_examples()
    batch = backbone.collate([backbone.encode(example) for example in examples])
    tower = tower_seconds(backbone) - tower_before
    report.seconds["data"] += time.perf_counter() - started - tower
    report.seconds["tower"] += tower
    report.samples += len(examples)
    report.tokens += batch.labels.numel()
    return examples, batch


def _optimise(
    model: Any,
    backbone: Backbone,
    optimiser: Optimiser,
    batch: Batch,
    loss: Loss,
    factor: float,
    counted: RepeatedWork,
) -> Tensor:
    """Take one optimiser step and return the loss before it."""
    # An algorithm's own loss may have more or fewer operations, whatever the shapes.
    shapes = batch.shapes if loss is answer_loss else None
    with counted.of(shapes), reporting_full_memory(backbone):
        value = loss(model, backbone, batch)
        value.backward()
        optimiser.step(factor)
    return value.detach()


@contextmanager
def reporting_full_memory(backbone: Backbone) -> Iterator[None]:
    """Raise FedMosaicError with the ways out where the block fills the device's memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise FedMosaicError(
            f"the device is out of memory with {backbone.name}: use a smaller train.batch_size or "
            "train.together, models.gradient_checkpointing=true, models.dtype=bfloat16 or "
            "models.quantise=4bit"
        ) from error


def _final_loss(losses: Sequence[Tensor], report: FitReport) -> float:
    """Return the mean loss, for which a device first ends all steps; add the time to the report."""
    started = time.perf_counter()
    found = mean_loss(losses) if losses else 0.0
    report.seconds["compute"] += time.perf_counter() - started
    return found


def mean_loss(losses: Sequence[Tensor]) -> float:
    """Return the mean of the steps' losses; raise TrainingError unless all are finite."""
    stacked = torch.stack(list(losses))
    if not torch.isfinite(stacked).all():
        raise TrainingError(
            "the training loss is not finite; lower train.lr and train.lr_shared, or use "
            "models.dtype=float32"
        )
    return float(stacked.mean())


def tower_seconds(backbone: Backbone) -> float:
    """Return the seconds that the model's vision tower has computed so far."""
    return backbone.images.seconds if backbone.images else 0.0


def _cuda_devices(backbone: Backbone) -> list[torch.device]:
    return [backbone.device] if backbone.device.type == "cuda" else []
