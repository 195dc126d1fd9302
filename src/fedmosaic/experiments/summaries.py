"""From the summaries of many runs to a comparison: means over seeds, paired differences to local training and to the best, ranks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from fedmosaic.experiments.statistics import Interval, interval, mean_ranks, paired

REFERENCE = "sft"
# Where a figure stands in a run's summary.
COLUMNS = {
    "Self": ("self", "last"),
    "Others": ("others", "last"),
    "in-group": ("others", "in_group", "last"),
    "out-group": ("others", "out_group", "last"),
    "Unseen": ("unseen", "last"),
    "Self AUC": ("self", "auc"),
    "Others AUC": ("others", "auc"),
}

Summaries = Mapping[str, Mapping[int, Mapping[str, Any]]]


def compare_summaries(summaries: Summaries) -> dict[str, dict[str, Any]]:
    """The figures of a comparison.

    Args:
        summaries: of finished runs, by label (an algorithm, or a variant of one) and seed.

    Returns:
        for every label with a run ``{"algorithm", "seeds", "steps", "flops", "bytes", "seconds"}`` and for every figure F of
        :data:`COLUMNS` that was measured, in percent,

        ``{"values": one a seed, "mean", "ci95", "minus sft": D, "minus best": {"of": label, **D}, "rank"}``

        with D = ``{"mean", "ci95"}`` of the paired difference. The best baseline has the highest mean of F among the labels of
        *other algorithms*, so that a variant's own ablations and controls are no baselines of it. It is chosen by the very
        runs it is compared on, which favours it. ``ci95`` is the half-width of the 95 % t-interval, None for a single seed.
    """
    found = {label: runs for label, runs in summaries.items() if runs}
    rows = {label: _costs(runs) for label, runs in found.items()}
    for column in COLUMNS:
        values = {label: column_values(runs, column) for label, runs in found.items()}
        values = {label: measured for label, measured in values.items() if measured}
        ranks = mean_ranks(values)
        for label, mine in values.items():
            entry: dict[str, Any] = {
                "values": [round(value, 3) for _, value in sorted(mine.items())]
            }
            entry |= _figures(interval(list(mine.values())))
            reference = values.get(REFERENCE)
            if label != REFERENCE and reference and (gap := paired(mine, reference)):
                entry["minus sft"] = _figures(gap)
            best = _best(label, values, {other: row["algorithm"] for other, row in rows.items()})
            if best and (gap := paired(mine, values[best])):
                entry["minus best"] = {"of": best, **_figures(gap)}
            if label in ranks and len(values) > 1:
                entry["rank"] = round(ranks[label], 3)
            rows[label][column] = entry
    return rows


def _best(
    label: str, values: Mapping[str, Mapping[int, float]], algorithm: Mapping[str, str]
) -> str | None:
    """The label of another algorithm with the highest mean; the first of equals."""
    others = {
        other: statistics.fmean(v.values())
        for other, v in values.items()
        if algorithm[other] != algorithm[label]
    }
    return max(others, key=others.__getitem__) if others else None


def _costs(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    first = runs[min(runs)]
    return {
        "algorithm": first["algorithm"],
        "seeds": sorted(runs),
        "steps": first.get("steps"),
        "rounds": first["rounds"]["of"],
        "flops": first.get("flops"),
        "bytes": first["bytes"],
        "seconds": round(
            statistics.median(summary["seconds"]["total"] for summary in runs.values()), 1
        ),
    }


def column_values(runs: Mapping[int, Mapping[str, Any]], column: str) -> dict[int, float]:
    """A figure of :data:`COLUMNS` of every run, by seed and in percent; without those where it was not measured."""
    values: dict[int, float] = {}
    for seed, summary in runs.items():
        found: Any = summary
        for part in COLUMNS[column]:
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            values[seed] = 100 * float(found)
    return values


def _figures(found: Interval) -> dict[str, float | None]:
    return {
        "mean": round(found.mean, 3),
        "ci95": None if found.half is None else round(found.half, 3),
    }
