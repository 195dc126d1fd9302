"""Evaluate a client's model on the test examples of tasks, as the scenario sets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

from fedmosaic.config import ClientSpec, Scenario, TaskSpec
from fedmosaic.evaluation import Record, Score, evaluate
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone


def measure(
    runtime: Runtime, backbone: Backbone, model: Any, spec: TaskSpec, items: int | None
) -> Score:
    """Return the model's score on at most ``items`` test examples of a task (None: all)."""
    settings = runtime.scenario.evaluation
    task = runtime.task(spec)
    return evaluate(
        backbone,
        model,
        runtime.test_set(spec, items),
        method="generation" if task.kind == "open" else settings.method,
        metric=task.metric,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        length=settings.length,
        reader=settings.reader,
    )


def measured_tasks(scenario: Scenario, client: ClientSpec) -> list[TaskSpec]:
    """Return the tasks that a client is evaluated on, each once.

    With ``evaluation.others``: the tasks of all clients and the unseen ones; else its own.
    """
    if not scenario.evaluation.others:
        return list(client.tasks)
    every = [spec for other in scenario.clients for spec in other.tasks] + list(scenario.unseen)
    return list({spec.name: spec for spec in every}.values())


def records_of(
    runtime: Runtime,
    client: ClientSpec,
    instructions: Instructions,
    stage: Literal["before", "after"],
    view: str,
    model: Any,
) -> Iterator[Record]:
    """Yield the scores of one of a client's models on every task that it is evaluated on."""
    backbone = runtime.backbone(client.model)
    for spec in measured_tasks(runtime.scenario, client):
        started = time.perf_counter()
        score = measure(
            runtime, backbone, model, spec, _items(runtime.scenario, client, spec, instructions)
        )
        yield Record(
            round=instructions.round,
            client=client.name,
            task=spec.name,
            metric=runtime.task(spec).metric,
            value=score.score,
            n=score.n,
            unreadable=score.unreadable,
            stage=stage,
            view=view,
            seconds=time.perf_counter() - started,
        )


def _items(
    scenario: Scenario, client: ClientSpec, spec: TaskSpec, instructions: Instructions
) -> int | None:
    """Return the number of test items of a task; None for all."""
    most = scenario.evaluation.others_items
    if most is None or spec.name in {own.name for own in client.tasks}:
        return instructions.items
    return most if instructions.items is None else min(most, instructions.items)
