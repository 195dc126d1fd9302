"""Write the comparison as a page, and its table into the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.common.marks import write_between_marks
from benchmarks.common.tables import table_head, table_row

COLUMNS = {
    "wall time, s": "wall",
    "a round, s": "round",
    "start and end, s": "rest",
    "processor time, s": "processor",
    "memory, MiB": "pss",
    "lines": "lines",
}


def table(result: Mapping[str, Any]) -> str:
    """Return medians by program, with the ratio to fedmosaic where it is not fedmosaic itself."""
    lines = table_head("program", list(COLUMNS))
    for name, row in result["programs"].items():
        cells = [row["title"]]
        for figure in COLUMNS.values():
            cell = f"{row[figure]:.1f}" if figure in ("round", "rest") else f"{row[figure]:.0f}"
            ratio = row["ratio"].get(figure)
            cells.append(
                cell if ratio is None or name == "fedmosaic" else f"{cell} ({ratio:.2f} ×)"
            )
        lines.append(table_row(cells))
    return "\n".join(lines)


def page(result: Mapping[str, Any]) -> str:
    """Return the page of the result."""
    rows = result["programs"]
    apart = max(row["largest_difference_of_weights"] for row in rows.values())
    losses = " → ".join(f"{value:.3f}" for value in rows["fedmosaic"]["loss"])
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return "\n".join(
        [
            "# The same federation with Flower + PEFT, and with PEFT by hand",
            "",
            f"Made by `{result['command']}` on {result['machine']['cores']} cores; {versions}.",
            "Medians of alternating runs; in brackets, medians of ratios to fedmosaic.",
            "",
            table(result),
            "",
            f"All programs learned the same: loss {losses}; their final weights differ by at most "
            f"{apart:.0e}.",
            "",
        ]
    )


def write_tables(result: Mapping[str, Any]) -> None:
    """Write the table into ``docs/results.md``."""
    write_between_marks("peers", table(result))
