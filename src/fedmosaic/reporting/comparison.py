"""Print the tables of a comparison, and write them as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from fedmosaic.experiments.summaries import COLUMNS, REFERENCE
from fedmosaic.reporting.measures import named, opening
from fedmosaic.reporting.summary import GROUP_COLUMNS
from fedmosaic.reporting.terminal import Column, TextTable, print_parts

Rows = Mapping[str, Mapping[str, Any]]
MAIN = ("Self", "Others", "Unseen")
LEGEND = (
    "{measure} in % after the last round (AUC: mean over all rounds): mean over seeds ± half-width "
    "of the 95 % t-interval. Differences are paired by seed: to local training (sft), and to the "
    "best of the other algorithms. rank: mean over seeds, 1 is best."
)


def print_comparison(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the tables of a comparison.

    Args:
        result: the content of ``comparison.json``.
        console: where to print; by default standard output.
    """
    rows: Rows = result["algorithms"]
    seeds = ", ".join(map(str, result["seeds"]))
    title = f"{result['scenario']} · seeds {seeds} · budget: {result['budget']}"
    parts: list[TextTable | Text | str] = [Text(title, "bold")]
    columns = shown_columns(rows)
    for column in MAIN:
        if column in columns:
            parts += ["", _main_table(column, rows, len(result["seeds"]))]
    if more := [column for column in columns if column not in MAIN]:
        parts += ["", _further_table(more, rows)]
    parts += ["", *(Text(line, "dim") for line in [legend(result), *notes(result)])]
    print_parts(parts, console)


def legend(result: Mapping[str, Any]) -> str:
    """Return what the figures of a comparison mean, with the names of their measures."""
    return LEGEND.format(measure=opening(named(result.get("metrics", ()), explained=True)))


def shown_columns(rows: Rows) -> list[str]:
    """Return the measured columns, without those of groups where the clients have no groups.

    Args:
        rows: by label, see :func:`fedmosaic.experiments.summaries.compare_summaries`.
    """
    found = [column for column in COLUMNS if any(column in row for row in rows.values())]
    grouped = all(column in found for column in GROUP_COLUMNS)
    return [column for column in found if grouped or column not in GROUP_COLUMNS]


def _main_table(column: str, rows: Rows, seeds: int) -> TextTable:
    """Compare the algorithms in one column, with differences and ranks where there are any."""
    measured = {label: row for label, row in rows.items() if column in row}
    figures = [row[column] for row in measured.values()]
    columns = [Column("algorithm"), Column(column.lower(), right=True)]
    if local := any("minus sft" in figure for figure in figures):
        columns.append(Column(f"difference to local training ({REFERENCE})", right=True))
    if best := any("minus best" in figure for figure in figures):
        columns += [Column("difference to best other", right=True), Column("best other")]
    if ranked := any("rank" in figure for figure in figures):
        columns.append(Column("rank", right=True))
    table = TextTable(columns)
    for label, row in measured.items():
        figure = row[column]
        done = len(row["seeds"])
        cells = [label if done == seeds else f"{label} ({done} of {seeds} seeds)", mean(figure)]
        cells += [difference(figure.get("minus sft"))] if local else []
        other = figure.get("minus best")
        cells += [difference(other), other["of"] if other else ""] if best else []
        cells += [f"{figure['rank']:.1f}" if "rank" in figure else ""] if ranked else []
        table.add(*cells)
    return table


def _further_table(columns: Sequence[str], rows: Rows) -> TextTable:
    table = TextTable([Column("algorithm"), *(Column(name, right=True) for name in columns)])
    for label, row in rows.items():
        table.add(label, *(mean(row[column]) if column in row else "" for column in columns))
    return table


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return what a sweep chose on the validation split, and which runs failed."""
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
    """Return a whole comparison as a Markdown page.

    Args:
        result: the content of ``comparison.json``.
        command: the command that made it; empty if the page should not name one.
    """
    lines = [f"# {result['title'] or result['scenario']}", ""]
    lines += [f"Made by `{command}`; all figures in `comparison.json`.", ""] if command else []
    lines += (
        [f"Settings: {', '.join(f'`{change}`' for change in result['settings'])}.", ""]
        if result["settings"]
        else []
    )
    lines += [f"Budget: {result['budget']}. Choices by {result['choice']}. {legend(result)}", ""]
    lines += markdown_tables(result["scenario"], result["algorithms"])
    lines += [line for note in notes(result) for line in (note, "")]
    return "\n".join(lines)


def markdown_tables(scenario: str, rows: Rows) -> list[str]:
    """Return the lines of a Markdown section with the figures of one scenario.

    The section has three tables: means with differences to local training; differences to the best
    other algorithm, with ranks; costs. A table without content is left out.

    Args:
        scenario: its name, for the heading.
        rows: by label, see :func:`fedmosaic.experiments.summaries.compare_summaries`.
    """
    seeds = sorted({seed for row in rows.values() for seed in row["seeds"]})
    lines = [f"## {scenario}, seeds {', '.join(map(str, seeds))}", ""]
    columns = shown_columns(rows)
    figures = [row[column] for row in rows.values() for column in columns if column in row]
    if any("minus sft" in figure for figure in figures):
        lines += [f"In brackets: difference to local training ({REFERENCE}).", ""]
    lines += [*_markdown_table(rows, columns, _mean_cell), ""]
    if any("minus best" in figure for figure in figures):
        lines += ["Difference to the best of the other algorithms, and mean rank:", ""]
        lines += [*_markdown_table(rows, columns, _best_cell), ""]
    return [*lines, "Cost of a run:", "", *_cost_table(rows), ""]


def _markdown_table(
    rows: Rows, columns: Sequence[str], cell: Callable[[Mapping[str, Any]], str]
) -> list[str]:
    lines = _head(["algorithm", *columns])
    for label, row in rows.items():
        lines.append(_line([label, *(cell(row[c]) if c in row else "" for c in columns)]))
    return lines


def _mean_cell(figure: Mapping[str, Any]) -> str:
    gap = figure.get("minus sft")
    return mean(figure) + (f" ({difference(gap)})" if gap else "")


def _best_cell(figure: Mapping[str, Any]) -> str:
    best = figure.get("minus best")
    rank = f", rank {figure['rank']:.1f}" if "rank" in figure else ""
    return f"{difference(best)} ({best['of']}){rank}" if best else ""


def _cost_table(rows: Rows) -> list[str]:
    lines = _head(
        ["algorithm", "steps per round", "GFLOP per client and round", "MB up", "MB down", "s"]
    )
    for label, row in rows.items():
        flops = row.get("flops")
        costs = [row.get("steps") or "", f"{flops['client_round'] / 1e9:.1f}" if flops else ""]
        size = [f"{row['bytes'][way] / 1e6:.1f}" for way in ("up", "down")]
        lines.append(_line([label, *costs, *size, f"{row['seconds']:.0f}"]))
    return lines


def _head(columns: Sequence[str]) -> list[str]:
    return [_line(columns), "|---" * len(columns) + "|"]


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def mean(figure: Mapping[str, Any]) -> str:
    """Format a mean as ``61.3 ± 4.3``, or alone for a single seed."""
    return f"{figure['mean']:.1f}" + _half(figure)


def difference(gap: Mapping[str, Any] | None) -> str:
    """Format a difference as ``+2.0 ± 2.5``, with its sign; None gives an empty text."""
    return f"{round(gap['mean'], 1) + 0.0:+.1f}" + _half(gap) if gap else ""


def _half(figure: Mapping[str, Any]) -> str:
    return "" if figure["ci95"] is None else f" ± {figure['ci95']:.1f}"
