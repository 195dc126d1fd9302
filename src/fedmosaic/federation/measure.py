"""Evaluate a client's model on the test examples of tasks, as the scenario sets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from fedmosaic.adapters.inference import merged_weights
from fedmosaic.config import ClientSpec, Scenario, TaskSpec
from fedmosaic.data.example import Example
from fedmosaic.data.validation import select
from fedmosaic.evaluation import Evaluator, Score, ScoredTask
from fedmosaic.evaluation.batches import PreparedModel
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone

CPU_TOKENS, DEVICE_TOKENS = 1024, 16_384
"""Most tokens in a batch on a CPU, whose caches hold no more activations, and on other devices."""

BATCH_MEMORY = 256 << 20
"""Bytes of batches that are kept for the other clients of an architecture."""

Test = tuple[TaskSpec, int | None]
"""A task, and the number of its test items; None for all."""


@dataclass(frozen=True)
class Timed:
    """Hold a score and the seconds that it took."""

    score: Score
    seconds: float


def measure(
    runtime: Runtime, backbone: Backbone, model: Any, spec: TaskSpec, items: int | None
) -> Score:
    """Return the model's score on at most ``items`` test examples of a task (None: all)."""
    with for_inference(runtime.scenario, model):
        return _evaluator(runtime, backbone, [(spec, items)]).evaluate(model)[0]


def measured_tasks(scenario: Scenario, client: ClientSpec) -> list[TaskSpec]:
    """Return the tasks that a client is evaluated on, each once.

    With ``evaluation.others``: the tasks of all clients and the unseen ones; else its own. A task
    that is among both has its place among the unseen ones, whose order a client's site sets.
    """
    if not scenario.evaluation.others:
        return list(client.tasks)
    last = {spec.name for spec in scenario.unseen}
    every = [spec for other in scenario.clients for spec in other.tasks if spec.name not in last]
    return list({spec.name: spec for spec in (*every, *scenario.unseen)}.values())


def tests_of(scenario: Scenario, client: ClientSpec, instructions: Instructions) -> list[Test]:
    """Return the tests of a client in a round."""
    return [
        (spec, _items(scenario, client, spec, instructions))
        for spec in measured_tasks(scenario, client)
    ]


def scores_of(runtime: Runtime, client: ClientSpec, model: Any, tests: list[Test]) -> list[Timed]:
    """Return the scores of one of a client's models on its tests."""
    scenario, backbone = runtime.scenario, runtime.backbone(client.model)
    together = [tests] if scenario.evaluation.fast else [[test] for test in tests]
    found: list[Timed] = []
    with for_inference(scenario, model):
        for part in together:
            started = time.perf_counter()
            scores = _evaluator(runtime, backbone, part).evaluate(model)
            found += _timed(scores, time.perf_counter() - started)
    return found


def scores_of_some(
    runtime: Runtime,
    client: ClientSpec,
    model: Any,
    tests: Sequence[Test],
    rows: Sequence[Sequence[int]],
    base: Any | None = None,
) -> list[Timed]:
    """Return the scores of one of a client's models on some items of each test.

    Args:
        runtime: holds tasks and models.
        client: the client.
        model: its model.
        tests: the tests.
        rows: for each test the places of its items, ascending.
        base: as of :meth:`.Evaluator.evaluate`.
    """
    started = time.perf_counter()
    examples = [
        select(runtime.test_set(spec, items), chosen)
        for (spec, items), chosen in zip(tests, rows, strict=True)
    ]
    backbone = runtime.backbone(client.model)
    with for_inference(runtime.scenario, model):
        scores = _new_evaluator(runtime, backbone, tests, examples).evaluate(model, base)
    return _timed(scores, time.perf_counter() - started)


def _timed(scores: Sequence[Score], seconds: float) -> list[Timed]:
    """Share out the seconds of an evaluation by the number of items."""
    each = seconds / max(sum(score.n for score in scores), 1)
    return [Timed(score, each * score.n) for score in scores]


def for_inference(scenario: Scenario, model: Any) -> AbstractContextManager[None]:
    """Merge the adapters of a model while it answers, unless it changes them by itself."""
    fixed = isinstance(model, nn.Module) and not isinstance(model, PreparedModel)
    return merged_weights(model, fuse=True) if scenario.evaluation.fast and fixed else nullcontext()


def _evaluator(runtime: Runtime, backbone: Backbone, tests: Sequence[Test]) -> Evaluator:
    """Return what evaluates the models of an architecture on these tests.

    The last one of each architecture is kept, because clients are evaluated on the same tests.
    """
    if not runtime.scenario.evaluation.fast:
        return _new_evaluator(runtime, backbone, tests)
    latest: dict[str, Any] = runtime.cached("evaluators", dict)
    key = [(spec.name, items) for spec, items in tests]
    if latest.get(backbone.name, (None,))[0] != key:
        latest.pop(backbone.name, None)
        latest[backbone.name] = key, _new_evaluator(runtime, backbone, tests)
    found: Evaluator = latest[backbone.name][1]
    return found


def _new_evaluator(
    runtime: Runtime,
    backbone: Backbone,
    tests: Sequence[Test],
    examples: Sequence[Sequence[Example]] | None = None,
) -> Evaluator:
    """Return what evaluates models on these examples of the tests; None: on all."""
    settings, tasks = runtime.scenario.evaluation, []
    for place, (spec, items) in enumerate(tests):
        task = runtime.task(spec)
        method = "generation" if task.kind == "open" else settings.method
        chosen = runtime.test_set(spec, items) if examples is None else examples[place]
        tasks.append(ScoredTask(chosen, method, task.metric))
    return evaluator_of(runtime, backbone, tasks)


def evaluator_of(runtime: Runtime, backbone: Backbone, tasks: Sequence[ScoredTask]) -> Evaluator:
    """Return what evaluates models of an architecture on examples, as the scenario sets."""
    settings = runtime.scenario.evaluation
    return Evaluator(
        backbone,
        tasks,
        batch_size=settings.batch_size,
        batch_tokens=_batch_tokens(backbone) if settings.fast else None,
        memory=BATCH_MEMORY if settings.fast else 0,
        max_new_tokens=settings.max_new_tokens,
        length=settings.length,
        reader=settings.reader,
        fast=settings.fast,
    )


def _batch_tokens(backbone: Backbone) -> int:
    return CPU_TOKENS if backbone.device.type == "cpu" else DEVICE_TOKENS


def most_items(scenario: Scenario) -> int | None:
    """Return the most test items of a task that any round uses; None for all."""
    items, last = scenario.evaluation.items, scenario.evaluation.last_items
    return None if items is None or last is None else max(items, last)


def _items(
    scenario: Scenario, client: ClientSpec, spec: TaskSpec, instructions: Instructions
) -> int | None:
    """Return the number of test items of a task; None for all."""
    most = scenario.evaluation.others_items
    if most is None or spec.name in {own.name for own in client.tasks}:
        return instructions.items
    return most if instructions.items is None else min(most, instructions.items)
