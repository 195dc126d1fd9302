"""Train the adapters of several clients on one base model as one batch.

Each client has examples, an optimiser and a learning rate schedule of its own. The loss of a step
is the sum of the clients' own mean losses, so that every client's gradients are those of training
by itself. A client whose loss is not finite disturbs no other.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fedmosaic.data.example import Example
from fedmosaic.errors import TrainingError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.client_rows import ClientRows
from fedmosaic.models.encoding import IGNORE, Encoded
from fedmosaic.models.unpadded import row_attention, takes_unpadded, unpadded
from fedmosaic.training.flops import RepeatedWork
from fedmosaic.training.joint_optimiser import JointOptimiser
from fedmosaic.training.loop import (
    FitReport,
    StepHook,
    mean_loss,
    reporting_full_memory,
    tower_seconds,
)
from fedmosaic.training.loss import answer_logits
from fedmosaic.training.optimiser import schedule_factor


class Stacked(Protocol):
    """List what is needed of the clients' adapters (``adapters.stacked.StackedAdapters``)."""

    def attached(self) -> AbstractContextManager[None]:
        """Let the model compute with all clients' adapters inside the block."""

    def describe_batch(self, rows: ClientRows) -> None:
        """Say whose the tokens of the next forward pass are."""


@dataclass
class Trainee:
    """Hold what one of the clients brings to a joint training.

    Attributes:
        next_examples: returns the examples of its next batch.
        dropout_seed: seeds the generator of what its adapters drop.
        each_step: called before every optimiser step, inside ``counting``.
        counting: counts the operations of ``each_step``.
        draw: that generator, while it trains.
        losses: its loss at each step so far.
        report: its work so far.
    """

    next_examples: Callable[[], Sequence[Example]]
    dropout_seed: int
    each_step: StepHook | None
    counting: Callable[[], AbstractContextManager[Any]]
    draw: torch.Generator = field(init=False)
    losses: list[Tensor] = field(default_factory=list)
    report: FitReport = field(default_factory=FitReport)


def fit_together(
    model: Any,
    backbone: Backbone,
    adapters: Stacked,
    optimiser: JointOptimiser,
    trainees: Sequence[Trainee],
    steps: int,
    *,
    first_step: int,
    total_steps: int,
    counting: Callable[[], AbstractContextManager[Any]],
) -> list[FitReport | TrainingError]:
    """Train all clients for ``steps`` optimiser steps each.

    Args:
        model: the model with its adapters.
        backbone: encodes and batches the examples.
        adapters: the clients' adapters, stacked in the order of the clients.
        optimiser: steps the stacked parameters.
        trainees: the clients.
        steps: number of optimiser steps.
        first_step: number of the first step in the whole run, for the learning-rate schedule.
        total_steps: number of steps of the whole run, for the learning-rate schedule.
        counting: counts the operations that the clients have in common.

    Returns:
        each client's report, with an equal share of the common time; or why its training failed.

    Raises:
        FedMosaicError: the memory of the device is full.
    """
    for trainee in trainees:
        trainee.draw = torch.Generator(backbone.device).manual_seed(trainee.dropout_seed)
    optimiser.prepare()
    counted = RepeatedWork()
    model.train()
    with adapters.attached():
        for step in range(steps):
            with counting():
                taken, batch = _next_batch(backbone, trainees)
                adapters.describe_batch(batch.rows)
            for trainee, examples in zip(trainees, taken, strict=True):
                _call_hook(trainee, step, examples)
            with counting(), counted.of(batch.shapes), reporting_full_memory(backbone):
                factor = schedule_factor(optimiser.settings, first_step + step, total_steps)
                _optimise(model, backbone, optimiser, batch, trainees, factor)
    model.eval()
    return [_outcome(trainee, steps) for trainee in trainees]


class JointBatch(NamedTuple):
    """Hold the examples of all clients.

    Attributes:
        batch: padded on the left, with equally many rows of each client; or one row without
            padding, where the model takes it.
        rows: whose its tokens are.
        columns: of its labels, where it is one row.
    """

    batch: Batch
    rows: ClientRows
    columns: Tensor | None = None

    @property
    def shapes(self) -> Hashable:
        """Return what decides the number of a step's operations."""
        lengths = self.batch.others["examples"].lengths if self.columns is not None else ()
        return self.batch.shapes, self.rows.sizes, tuple(lengths)

    def attention(self, model: Any) -> AbstractContextManager[None]:
        """Let the model take this batch inside the block."""
        if self.columns is None:
            return nullcontext()
        return row_attention(model.get_base_model() if hasattr(model, "get_base_model") else model)

    def losses(self, model: Any, backbone: Backbone) -> Tensor:
        """Return each client's mean cross-entropy over its labelled tokens, float32 [clients]."""
        clients = len(self.rows.sizes)
        if self.columns is None:
            logits, labels = answer_logits(model, backbone, self.batch)
            counts = [labels.numel() // clients] * clients
        else:
            logits = backbone.logits(model, self.batch, self.columns - 1)
            labels = self.batch.labels[0, self.columns]
            ends = torch.tensor(self.rows.sizes).cumsum(0)
            places = self.columns.cpu()
            counts = torch.searchsorted(places, ends).diff(prepend=ends.new_zeros(1)).tolist()
        parts = logits.flatten(0, 1).float().split(counts), labels.flatten().split(counts)
        return torch.stack(
            [
                functional.cross_entropy(own, wanted, ignore_index=IGNORE)
                for own, wanted in zip(*parts, strict=True)
            ]
        )


def _next_batch(
    backbone: Backbone, trainees: Sequence[Trainee]
) -> tuple[list[Sequence[Example]], JointBatch]:
    """Return the next examples of each client and their batch; add the work to the reports."""
    started, tower_before = time.perf_counter(), tower_seconds(backbone)
    taken = [trainee.next_examples() for trainee in trainees]
    encoded = [[backbone.encode(example) for example in examples] for examples in taken]
    draws = [trainee.draw for trainee in trainees]
    every = [item for own in encoded for item in own]
    if takes_unpadded(backbone, every):
        batch, columns = unpadded(backbone.collate(every), every)
        lengths = [[len(item.input_ids) for item in own] for own in encoded]
        found = JointBatch(batch, ClientRows.unpadded(lengths, draws), columns)
    else:
        found = _padded(backbone, encoded, draws)
    tower = tower_seconds(backbone) - tower_before
    data = time.perf_counter() - started - tower
    for trainee, own, size in zip(trainees, encoded, found.rows.sizes, strict=True):
        trainee.report.seconds["data"] += data / len(trainees)
        trainee.report.seconds["tower"] += tower / len(trainees)
        trainee.report.samples += len(own)
        trainee.report.tokens += size
    return taken, found


def _padded(
    backbone: Backbone, encoded: Sequence[Sequence[Encoded]], draws: Sequence[torch.Generator]
) -> JointBatch:
    """Return a padded batch, in which all clients have as many rows.

    A client with fewer examples repeats its last one without a label.
    """
    most = max(len(own) for own in encoded)
    filled = [one for own in encoded for one in (*own, *[_unlabelled(own[-1])] * (most - len(own)))]
    batch = backbone.collate(filled)
    own = [(len(some), max(len(item.input_ids) for item in some)) for some in encoded]
    return JointBatch(batch, ClientRows.padded(most, batch.labels.shape[1], own, draws))


def _unlabelled(item: Encoded) -> Encoded:
    return replace(item, labels=array("i", [IGNORE]) * len(item.labels))


def _call_hook(trainee: Trainee, step: int, examples: Sequence[Example]) -> None:
    if trainee.each_step is not None:
        started = time.perf_counter()
        with trainee.counting():
            trainee.each_step(step, examples)
        trainee.report.seconds["hook"] += time.perf_counter() - started


def _optimise(
    model: Any,
    backbone: Backbone,
    optimiser: JointOptimiser,
    batch: JointBatch,
    trainees: Sequence[Trainee],
    factor: float,
) -> None:
    """Take one optimiser step of each client."""
    started = time.perf_counter()
    with batch.attention(model):
        losses = batch.losses(model, backbone)
        losses.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step(factor)
    for trainee, loss in zip(trainees, losses.detach().unbind(), strict=True):
        trainee.losses.append(loss)
    seconds = (time.perf_counter() - started) / len(trainees)
    for trainee in trainees:
        trainee.report.seconds["compute"] += seconds


def _outcome(trainee: Trainee, steps: int) -> FitReport | TrainingError:
    try:
        trainee.report.loss = mean_loss(trainee.losses) if steps else 0.0
    except TrainingError as error:
        return error
    trainee.report.steps = steps
    return trainee.report
