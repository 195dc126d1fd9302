"""The tables of a comparison: for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fedmosaic.experiments.summaries import COLUMNS

Rows = Mapping[str, Mapping[str, Any]]
MAIN = ("Self", "Others", "Unseen")
LEGEND = (
    "Accuracy in % after the last round (AUC: over all rounds): mean over seeds ± half-width of the 95 % t-interval. Differences "
    "are paired by seed: − sft to local training, − best to the best of the other algorithms. rank: mean over seeds, 1 is best."
)


def comparison_table(result: Mapping[str, Any]) -> RenderableType:
    """A table for each of Self, Others and Unseen, a line for each algorithm, and one for the figures beside them."""
    rows: Rows = result["algorithms"]
    seeds = ", ".join(map(str, result["seeds"]))
    parts: list[RenderableType] = [
        Text(f"{result['scenario']} · seeds {seeds} · budget: {result['budget']}", style="bold")
    ]
    for column in MAIN:
        if measured := {label: row for label, row in rows.items() if column in row}:
            parts.append(_main_table(column, measured, len(result["seeds"])))
    beside = [
        column
        for column in COLUMNS
        if column not in MAIN and any(column in row for row in rows.values())
    ]
    parts.append(_beside_table(beside, rows))
    parts.append(Text(LEGEND, style="dim"))
    parts += [Text(line, style="dim") for line in notes(result)]
    return Group(*parts)


def print_comparison(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the tables."""
    (console or Console()).print(comparison_table(result))


def _main_table(column: str, rows: Rows, seeds: int) -> Table:
    table = _table("algorithm", column.lower(), "− sft", "− best", "", "rank")
    for label, row in rows.items():
        figure = row[column]
        best = figure.get("minus best")
        missing = "" if len(row["seeds"]) == seeds else f" ({len(row['seeds'])} of {seeds} seeds)"
        table.add_row(
            escape(label) + missing,
            mean(figure),
            difference(figure.get("minus sft")),
            difference(best),
            escape(f"({best['of']})") if best else "",
            f"{figure['rank']:.1f}" if "rank" in figure else "",
        )
    return table


def _beside_table(columns: Sequence[str], rows: Rows) -> Table:
    table = _table("algorithm", *columns)
    for label, row in rows.items():
        table.add_row(
            escape(label), *(mean(row[column]) if column in row else "" for column in columns)
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, overflow="fold", min_width=8)
    for name in others:
        table.add_column(
            name, justify="right" if name else "left", style="" if name else "dim", overflow="fold"
        )
    return table


def notes(result: Mapping[str, Any]) -> list[str]:
    """What was chosen on the validation split, and what failed."""
    chosen = [
        f"{label}: {', '.join(settings)}"
        for label, settings in result.get("chosen", {}).items()
        if settings
    ]
    lines = ["Chosen on the validation split: " + "; ".join(chosen)] if chosen else []
    lines += [
        f"failed: {entry['label']}, seed {entry['seed']}: {entry['reason']}"
        for entry in result["failed"]
    ]
    return lines


def markdown(result: Mapping[str, Any], command: str = "") -> str:
    """The whole comparison as a Markdown page."""
    lines = [f"# {result['title'] or result['scenario']}", ""]
    lines += [f"Made by `{command}`; all figures in `comparison.json`.", ""] if command else []
    lines += (
        [f"Settings: {', '.join(f'`{change}`' for change in result['settings'])}.", ""]
        if result["settings"]
        else []
    )
    lines += [f"Budget: {result['budget']}. Choices by {result['choice']}. {LEGEND}", ""]
    lines += markdown_tables(result["scenario"], result["algorithms"])
    lines += [line for note in notes(result) for line in (note, "")]
    return "\n".join(lines)


def markdown_tables(scenario: str, rows: Rows) -> list[str]:
    """The figures of one scenario: means with differences to local training; differences to the best; what it cost."""
    columns = [column for column in COLUMNS if any(column in row for row in rows.values())]
    seeds = sorted({seed for row in rows.values() for seed in row["seeds"]})
    lines = [f"## {scenario}, seeds {', '.join(map(str, seeds))}", "", "In brackets: − sft.", ""]
    lines += _head(["algorithm", *columns])
    for label, row in rows.items():
        cells = []
        for column in columns:
            gap = row[column].get("minus sft") if column in row else None
            cells.append(
                (mean(row[column]) if column in row else "")
                + (f" ({difference(gap)})" if gap else "")
            )
        lines.append(_line([label, *cells]))
    lines += [
        "",
        "Difference to the best of the other algorithms, and mean rank:",
        "",
        *_head(["algorithm", *columns]),
    ]
    for label, row in rows.items():
        cells = []
        for column in columns:
            figure = row.get(column, {})
            best = figure.get("minus best")
            rank = f", rank {figure['rank']:.1f}" if "rank" in figure else ""
            cells.append(f"{difference(best)} ({best['of']}){rank}" if best else "")
        lines.append(_line([label, *cells]))
    lines += [
        "",
        "What it took, a run:",
        "",
        *_head(["algorithm", "steps a round", "GFLOP a client and round", "MB up", "MB down", "s"]),
    ]
    for label, row in rows.items():
        flops = row.get("flops")
        costs = [row.get("steps") or "", f"{flops['client_round'] / 1e9:.1f}" if flops else ""]
        size = [f"{row['bytes'][way] / 1e6:.1f}" for way in ("up", "down")]
        lines.append(_line([label, *costs, *size, f"{row['seconds']:.0f}"]))
    return [*lines, ""]


def _head(columns: Sequence[str]) -> list[str]:
    return [_line(columns), "|---" * len(columns) + "|"]


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def mean(figure: Mapping[str, Any]) -> str:
    """``61.3 ± 4.3``, or the mean alone for a single seed."""
    return f"{figure['mean']:.1f}" + _half(figure)


def difference(gap: Mapping[str, Any] | None) -> str:
    """``+2.0 ± 2.5``, with its sign; empty without one."""
    return f"{round(gap['mean'], 1) + 0.0:+.1f}" + _half(gap) if gap else ""


def _half(figure: Mapping[str, Any]) -> str:
    return "" if figure["ci95"] is None else f" ± {figure['ci95']:.1f}"
