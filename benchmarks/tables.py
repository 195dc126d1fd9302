"""What the benchmarks' tables share: figures by seed, intervals as text, the short table of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.evaluation.statistics import Interval
from fedmosaic.reporting.comparison import difference, mean

COLUMNS = ("Self", "Others", "in-group", "out-group")
Values = Mapping[str, Mapping[str, Mapping[int, float]]]  # by label, column and seed, in percent


def shown(found: Interval | None, sign: str = "") -> str:
    if found is None:
        return ""
    return f"{found.mean:{sign}.1f}" + ("" if found.half is None else f" ± {found.half:.1f}")


def values_of(rows: Mapping[str, Any], columns: Sequence[str] = COLUMNS) -> Values:
    """The figures of a comparison's rows by label, column and seed."""
    return {
        label: {column: dict(zip(row["seeds"], row[column]["values"], strict=True)) for column in columns}
        for label, row in rows.items()
    }


def short_table(scenarios: Mapping[str, Mapping[str, Any]]) -> str:
    """Self and Others of every scenario and algorithm, for the README."""
    lines = ["| scenario | algorithm | Self | Others | Others − sft |", "|---|---|---|---|---|"]
    for scenario, rows in scenarios.items():
        for label, row in rows.items():
            cells = [mean(row["Self"]), mean(row["Others"]), difference(row["Others"].get("minus sft"))]
            lines.append(f"| {scenario} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
