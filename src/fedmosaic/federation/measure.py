"""One score: a client's model on the test examples of a task, the way the scenario measures."""

from __future__ import annotations

from typing import Any

from fedmosaic.config import TaskSpec
from fedmosaic.evaluation import Score, evaluate
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone


def measure(
    runtime: Runtime, backbone: Backbone, model: Any, spec: TaskSpec, items: int | None
) -> Score:
    """The model's score on at most ``items`` test examples (None: all), a sample that is the same for everyone."""
    settings = runtime.scenario.evaluation
    task = runtime.task(spec, "tasks")
    return evaluate(
        backbone,
        model,
        runtime.test_set(spec, items),
        method="generation" if task.kind == "open" else settings.method,
        metric=task.metric,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        length=settings.length,
    )
