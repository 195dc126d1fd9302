"""Measure fast adaptation from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmosaic.experiments.adapt import OnResult
from fedmosaic.experiments.adapt import adapt as adapt_run
from fedmosaic.experiments.adaptation import planned
from fedmosaic.federation.run_folder import RunFolder


def adapt(
    folder: str | Path,
    *,
    tasks: Sequence[str] = (),
    clients: Sequence[str] = (),
    every: int = 10,
    points: int = 5,
    items: int | None = None,
    fresh: bool = False,
    received: bool = False,
    on_result: OnResult | None = None,
) -> dict[str, Any]:
    """Measure how soon a finished run's clients learn tasks that none of them trained on.

    The result is ``adaptation.json`` in the run folder, and part of reports. The same call
    continues a measurement that was interrupted. See
    :func:`fedmosaic.experiments.adapt.adapt`.

    Args:
        folder: a run folder.
        tasks: names of the tasks; by default the scenario's unseen ones.
        clients: names of the clients; by default all.
        every: local steps between two evaluations.
        points: number of evaluations after the first.
        items: test examples a task; None for all.
        fresh: whether to measure untrained adapters, too.
        received: whether to measure what the server would send next in place of the client's own
            adapter, too.
        on_result: called with client, task, kind and accuracies after each measurement.

    Returns:
        ``{"settings", "adapted": {client: {task: accuracies}}, "fresh": …, "received": …}``.

    Raises:
        ConfigError: no tasks, or an unknown client.
        CheckpointError: no finished run.
        FedMosaicError: an error during training.
    """
    opened, settings = RunFolder.open(Path(folder))
    plan = planned(settings, tasks, clients, every=every, points=points, items=items)
    return adapt_run(opened, settings, plan, fresh=fresh, received=received, on_result=on_result)
