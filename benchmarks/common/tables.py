"""Share what all tables need: values by seed, intervals as text, rows of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from fedmosaic.config import Scenario
from fedmosaic.experiments.statistics import Interval
from fedmosaic.experiments.summaries import compare_summaries
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.reporting.comparison import difference, mean

COLUMNS = ("Self", "Others", "in-group", "out-group")
Values = Mapping[str, Mapping[str, Mapping[int, float]]]  # by label, column and seed, in percent


def table_row(cells: Iterable[str]) -> str:
    """Return one row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def table_head(first: str, columns: Sequence[str]) -> list[str]:
    """Return the two first lines of a Markdown table."""
    return [table_row([first, *columns]), "|---" * (len(columns) + 1) + "|"]


def format_interval(found: Interval | None, sign: str = "") -> str:
    """Return ``mean ± half-width`` with one digit, or nothing where there is no value.

    Args:
        found: the interval.
        sign: ``+`` shows the sign of positive means.
    """
    if found is None:
        return ""
    return f"{found.mean:{sign}.1f}" + ("" if found.half is None else f" ± {found.half:.1f}")


def values_by_seed(rows: Mapping[str, Any], columns: Sequence[str] = COLUMNS) -> Values:
    """Return the accuracies of a comparison's rows by label, column and seed, in percent."""
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
    """Compare the labels whose runs are finished for every seed.

    Args:
        run_of: gives the run folder of a label and a seed.
        labels: labels in the order of the result.
        seeds: seeds that a label needs.
    """
    found: dict[str, dict[int, Any]] = {}
    for label in labels:
        runs = {seed: run_of(label, seed).summary() for seed in seeds}
        if all(runs.values()):
            found[label] = runs
    return compare_summaries(found)


def own_group_share(groups: Sequence[str], weights: Sequence[Sequence[float]]) -> float:
    """Return the share of RELA weight that goes to peers of the own group, in percent.

    Args:
        groups: the group of each client.
        weights: a row of weights over all clients for each client.

    Returns:
        The mean over clients.
    """
    shares = [
        sum(w for j, w in enumerate(row) if j != i and groups[j] == groups[i])
        for i, row in enumerate(weights)
    ]
    return 100 * fmean(shares)


def own_group_shares(
    run_of: Callable[[str, int], RunFolder],
    scenario: Scenario,
    labels: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, float]:
    """Return the own group's share of weight after the last round, mean over seeds.

    Args:
        run_of: gives the run folder of a label and a seed.
        scenario: names the clients and their groups.
        labels: labels to look at; those whose runs have no weights are left out.
        seeds: seeds to average over.

    Returns:
        The share by label, in percent, and as ``equal`` that of equal weights.
    """
    groups = {client.name: client.group for client in scenario.clients}
    equal = [[1 / (len(groups) - 1)] * len(groups)] * len(groups)
    found = {"equal": round(own_group_share(list(groups.values()), equal), 1)}
    for label in labels:
        shares: list[float] = []
        for seed in seeds:
            lines = run_of(label, seed).lines()
            if rounds := [line["relevance"] for line in lines if "relevance" in line]:
                last = rounds[-1]
                shares.append(
                    own_group_share([groups[name] for name in last["clients"]], last["weights"])
                )
        if shares:
            found[label] = round(fmean(shares), 1)
    return found


def scenario_table(scenarios: Mapping[str, Mapping[str, Any]]) -> str:
    """Return Self, Others and the gain over local training of every scenario and algorithm."""
    lines = table_head("scenario", ["algorithm", "Self", "Others", "Others − sft"])
    for scenario, rows in scenarios.items():
        for label, row in rows.items():
            gain = difference(row["Others"].get("minus sft"))
            lines.append(table_row([scenario, label, mean(row["Self"]), mean(row["Others"]), gain]))
    return "\n".join(lines)
