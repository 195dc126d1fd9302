"""Show what a check found of data, and its progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.status import Status
from rich.text import Text

from fedmosaic.data.checks.report import CheckedData, CheckedTask, Fault, SplitFacts
from fedmosaic.reporting.terminal import Column, TextTable, print_parts
from fedmosaic.reporting.units import percent

FAULTS_SHOWN = 50
"""Lines of faults that are printed where no other number is asked for."""
_ITEMS_NAMED = 8
"""Items of the same fault that are named in its line."""


def print_checked_data(
    found: CheckedData, limit: int = FAULTS_SHOWN, console: Console | None = None
) -> None:
    """Print a table for each task, notes, what was not checked, and last the faults.

    Args:
        found: what the check found.
        limit: the most lines of faults to print; items of a file with the same fault share one.
            0: a line for each fault.
        console: where to print; by default standard output.
    """
    parts: list[TextTable | Text | str] = []
    for task in found.tasks:
        table = TextTable(
            [Column("checked"), Column("found", wrap=True)], title=f"{task.name} {_kind(task)}"
        )
        for label, text in task_rows(task):
            table.add(label, text)
        parts += [table, ""] if table.rows else []
    parts += [f"note: {note}" for note in found.notes]
    parts += [
        Text(f"not checked for {model}: {reason}", "yellow")
        for model, reason in found.unchecked.items()
    ]
    faults = found.faults
    if not faults:
        parts.append(Text("no faults", "green"))
    alike = _alike(faults) if limit else [[fault] for fault in faults]
    shown = alike[:limit] if limit else alike
    parts += [Text(f"fault: {group[0]}{_same_in(group[1:])}", "red") for group in shown]
    if left := len(faults) - sum(map(len, shown)):
        noun = "fault" if left == 1 else "faults"
        parts.append(Text(f"{left} more {noun}; --limit-faults 0 prints all", "red"))
    if faults:
        parts.append(Text(_summary(faults), "red"))
    print_parts(parts, console)


def _alike(faults: list[Fault]) -> list[list[Fault]]:
    """Return groups of faults that differ in their items only, in the sequence of their first."""
    groups: dict[object, list[Fault]] = {}
    for fault in faults:
        key = (fault.task, fault.message, fault.file, fault.field, fault.model)
        groups.setdefault(key, []).append(fault)
    return list(groups.values())


def _same_in(others: list[Fault]) -> str:
    """Name the items that have the same fault as the one before."""
    if not others:
        return ""
    numbers = ", ".join(str(fault.item) for fault in others[:_ITEMS_NAMED])
    more = f" and {len(others) - _ITEMS_NAMED} more" if len(others) > _ITEMS_NAMED else ""
    return f" (the same in item{'s' if len(others) > 1 else ''} {numbers}{more})"


def _kind(task: CheckedTask) -> str:
    return f"({task.kind}, {task.metric})" if task.kind else "(public)"


def _summary(faults: list[Fault]) -> str:
    by_file = Counter(fault.file or fault.task for fault in faults)
    counts = ", ".join(f"{count} in {name}" for name, count in by_file.most_common(5))
    more = f", and {len(by_file) - 5} more" if len(by_file) > 5 else ""
    noun = "fault" if len(faults) == 1 else "faults"
    return f"{len(faults)} {noun}: {counts}{more}"


def task_rows(task: CheckedTask) -> Iterator[tuple[str, str]]:
    """Yield label and text of each thing that was counted of a task."""
    for name, facts in task.splits.items():
        yield f"{name} items", str(facts.items)
        if not facts.items:
            continue
        yield from _split_rows(name, facts)


def _split_rows(name: str, facts: SplitFacts) -> Iterator[tuple[str, str]]:
    yield f"{name} images", _by_number(facts.images, "image")
    if facts.heights:
        sizes = (
            f"{label} {width:g} × {height:g}"
            for label, width, height in zip(
                ("least", "median", "most"), facts.widths, facts.heights, strict=True
            )
        )
        yield f"{name} sizes", f"{', '.join(sizes)} pixels"
    if any(facts.options):
        yield f"{name} options", _by_number(facts.options, "option")
    commonest = " ".join(facts.commonest.split())
    yield (
        f"{name} answers",
        f"{facts.answers} different; {percent(facts.share)} % are {commonest!r}",
    )
    for model, quantiles in facts.tokens.items():
        text = ", ".join(f"{label} {tokens}" for label, tokens in quantiles.items())
        yield f"{name} tokens", f"{model}: {text}"


def _by_number(counts: object, noun: str) -> str:
    assert isinstance(counts, dict)
    if list(counts) == [0]:
        return "none"
    return ", ".join(
        f"{number} {noun}{'' if number == 1 else 's'} in {items} items"
        for number, items in counts.items()
    )


class DataCheckProgress:
    """Show on standard error which task is checked, and on a terminal how far.

    Call it with the name of a task and the number of its items checked.
    """

    def __init__(self, shown: bool = True, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.shown = shown
        self.status = Status("", console=self.console)
        self.last = ""

    def __enter__(self) -> DataCheckProgress:
        if self.shown and self.console.is_terminal:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.status.stop()

    def __call__(self, task: str, done: int) -> None:
        """Show the number of items checked."""
        if not self.shown:
            return
        if self.console.is_terminal:
            self.status.update(Text(f"{task}: {done} items" if done else task))
        elif task != self.last:
            print_parts([task], self.console)
        self.last = task
