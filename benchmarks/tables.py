"""What the benchmarks' tables share: figures by seed, intervals as text, the short table of the README."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmosaic.evaluation.comparison import compare_summaries
from fedmosaic.evaluation.statistics import Interval
from fedmosaic.federation.runfolder import RunFolder
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


def complete_rows(
    run_of: Callable[[str, int], RunFolder], labels: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """The figures of a comparison, of the labels of which every seed has finished; ``run_of(label, seed)`` is where a run is."""
    found: dict[str, dict[int, Any]] = {}
    for label in labels:
        runs = {seed: run_of(label, seed).summary() for seed in seeds}
        if all(runs.values()):
            found[label] = runs
    return compare_summaries(found)


def short_table(scenarios: Mapping[str, Mapping[str, Any]]) -> str:
    """Self and Others of every scenario and algorithm, for the README."""
    lines = ["| scenario | algorithm | Self | Others | Others − sft |", "|---|---|---|---|---|"]
    for scenario, rows in scenarios.items():
        for label, row in rows.items():
            cells = [mean(row["Self"]), mean(row["Others"]), difference(row["Others"].get("minus sft"))]
            lines.append(f"| {scenario} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
