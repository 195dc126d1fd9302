"""Print how fast the clients of finished runs learn new tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from fedmosaic.experiments.adaptation import ADAPTED, FRESH, RECEIVED, complete, mean_curve
from fedmosaic.reporting.measures import named, opening
from fedmosaic.reporting.terminal import Column, TextTable, print_parts
from fedmosaic.reporting.units import percent

# The adapters that a client can start with, as tables and figures name them.
STARTS = {
    ADAPTED: "its own adapter",
    RECEIVED: "what it would receive next",
    FRESH: "an untrained adapter",
}


def print_curve(client: str, task: str, kind: str, values: Sequence[float]) -> None:
    """Print the scores of one client on one task, in percent.

    Args:
        client: its name.
        task: the task's name.
        kind: the adapter that the client started with, a key of :data:`STARTS`.
        values: scores from 0 to 1, one a measurement.
    """
    start = "" if kind == ADAPTED else f" from {STARTS[kind]}"
    print(f"{client} · {task}{start}  {' '.join(map(percent, values))}", flush=True)


def print_adaptations(
    measured: Mapping[str, Mapping[str, Any]], console: Console | None = None
) -> None:
    """Print the mean score of every run after each measured number of local steps.

    Args:
        measured: by run folder, what :func:`fedmosaic.experiments.adapt.adapt` returns. All
            runs were measured with the same settings.
        console: where to print; by default standard output.
    """
    settings = next(iter(measured.values()))["settings"]
    metrics = {name for content in measured.values() for name in content["metrics"].values()}
    steps = [point * settings["every"] for point in range(settings["points"] + 1)]
    table = TextTable(
        [
            Column("run"),
            Column("clients start with"),
            *(Column(f"{count} steps", right=True) for count in steps),
        ],
        title=f"{opening(named(metrics, explained=True))} in % on new tasks after local steps, "
        "mean over clients and tasks",
    )
    for run, content in measured.items():
        for kind, start in STARTS.items():
            if complete(content, kind):
                table.add(run, start, *map(percent, mean_curve(content[kind])))
    print_parts(["", table, ""], console)
