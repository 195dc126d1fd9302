"""How soon runs adapt to new tasks, for a terminal: a line as soon as a curve is there, and the table of means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedmosaic.experiments.adaptation import ADAPTED, FRESH, RECEIVED, complete, mean_curve
from fedmosaic.reporting.tables import percent

STARTS = {
    ADAPTED: "where the run ended",
    RECEIVED: "what was received",
    FRESH: "untrained adapters",
}


def print_curve(client: str, task: str, kind: str, values: Sequence[float]) -> None:
    """One client on one task, accuracies in percent."""
    beside = "" if kind == ADAPTED else f" ({kind})"
    print(f"{client} · {task}{beside}  {' '.join(percent(value) for value in values)}", flush=True)


def print_adaptations(
    found: Mapping[str, Mapping[str, Any]], console: Console | None = None
) -> None:
    """Means over clients and tasks of every run, after so many local steps, the same in all of them."""
    table = Table(
        title="accuracy in % on new tasks after so many local steps",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("run", overflow="fold")
    table.add_column("start")
    measured = next(iter(found.values()))["settings"]
    for point in range(measured["points"] + 1):
        table.add_column(str(point * measured["every"]), justify="right")
    for run, content in found.items():
        for kind, start in STARTS.items():
            if complete(content, kind):
                table.add_row(
                    escape(run), start, *(percent(value) for value in mean_curve(content[kind]))
                )
    (console or Console()).print(table)
