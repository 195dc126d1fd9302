"""Show the progress of downloads, and which data sets of a benchmark are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from fedmosaic.data.download import DataSetState
from fedmosaic.data.download.hub import Progress as OnBytes
from fedmosaic.data.sources import Benchmark
from fedmosaic.reporting.terminal import Column, TextTable, print_parts
from fedmosaic.reporting.units import amount


class DownloadProgress:
    """Show a bar for the data set that is being downloaded; in a pipe one line a step.

    Args:
        quiet: show nothing.
        console: where; by default standard error.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, quiet=quiet)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.steps: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> DownloadProgress:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def of(self, name: str) -> OnBytes:
        """Return the progress callback of a data set."""

        def show(step: str, done: int, total: int) -> None:
            if (name, step) not in self.steps:
                self.steps[name, step] = self.bars.add_task(f"{name}: {step}", total=total)
                if self.bars.disable:
                    begun = f", {amount(done)} are here" if done and step == "downloading" else ""
                    self.console.print(f"{name}: {step} {amount(total)}{begun}", highlight=False)
            self.bars.update(self.steps[name, step], completed=done)

        return show


def print_data_sets(
    states: Sequence[DataSetState],
    benchmark: Benchmark,
    root: Path,
    note: str = "",
    as_json: bool = False,
) -> None:
    """Print the data sets of a benchmark, how they stand below a root, and their licences.

    Args:
        states: the data sets.
        benchmark: whose they are.
        root: where they are.
        note: a sentence below the table; default none.
        as_json: print a JSON list of objects instead.
    """
    if as_json:
        entries = [_entry(state) for state in states]
        print(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    columns = [
        Column("data set", style="bold"),
        Column("tasks", right=True),
        Column("state", wrap=True),
        Column("archive", right=True),
        Column("licence of the source", wrap=True),
        Column("source"),
    ]
    table = TextTable(columns, title=f"{benchmark.title} in {root}")
    for state in states:
        source = state.source
        size = amount(state.archive.size) if state.archive else "–"
        count = str(len(source.subsets))
        table.add(source.name, count, state.state, size, source.licence, source.address)
    lines = [
        f"The card of {benchmark.repository} states: {benchmark.licence}. The sources' own "
        "licences apply as well; where one is unknown, ask at the source.",
        note,
    ]
    print_parts([table, "", *(Text(line, "dim") for line in lines if line)])


def _entry(state: DataSetState) -> dict[str, Any]:
    """Return what is known about a data set, for JSON."""
    return {
        "name": state.source.name,
        "state": state.state,
        "tasks": state.source.tasks,
        "archive_bytes": state.archive.size if state.archive else None,
        "content": state.source.content,
        "images": state.source.images,
        "licence": state.source.licence,
        "address": state.source.address,
    }
