"""What the benchmarks' tables share: figures by seed, intervals as text, weights of the own group, the short table of the README."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from fedmosaic.config import Scenario
from fedmosaic.experiments.statistics import Interval
from fedmosaic.experiments.summaries import compare_summaries
from fedmosaic.federation.run_folder import RunFolder
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
        label: {
            column: dict(zip(row["seeds"], row[column]["values"], strict=True))
            for column in columns
        }
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


def own_group(groups: Sequence[str], weights: Sequence[Sequence[float]]) -> float:
    """Share of a client's weights that goes to peers of its own group, mean over clients (whose groups these are), in percent."""
    alike = [
        sum(w for j, w in enumerate(row) if j != i and groups[j] == groups[i])
        for i, row in enumerate(weights)
    ]
    return 100 * fmean(alike)


def weights_after(
    run_of: Callable[[str, int], RunFolder],
    compared: Scenario,
    labels: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, float]:
    """``own_group`` after the last round, mean over seeds, of every label whose runs have weights; and of equal weights as "equal"."""
    groups = {client.name: client.group for client in compared.clients}
    equal = [[1 / (len(groups) - 1)] * len(groups)] * len(groups)
    found = {"equal": round(own_group(list(groups.values()), equal), 1)}
    for label in labels:
        shares: list[float] = []
        for seed in seeds:
            run = run_of(label, seed)
            if signed := [line["relevance"] for line in run.lines() if "relevance" in line]:
                shares.append(
                    own_group(
                        [groups[name] for name in signed[-1]["clients"]], signed[-1]["weights"]
                    )
                )
        if shares:
            found[label] = round(fmean(shares), 1)
    return found


def short_table(scenarios: Mapping[str, Mapping[str, Any]]) -> str:
    """Self and Others of every scenario and algorithm, for the README."""
    lines = ["| scenario | algorithm | Self | Others | Others − sft |", "|---|---|---|---|---|"]
    for scenario, rows in scenarios.items():
        for label, row in rows.items():
            cells = [
                mean(row["Self"]),
                mean(row["Others"]),
                difference(row["Others"].get("minus sft")),
            ]
            lines.append(f"| {scenario} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
