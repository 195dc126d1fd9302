"""Compare the summaries of many runs: means over seeds, paired differences and ranks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from fedmosaic.experiments.statistics import Interval, interval, mean_ranks, paired

REFERENCE = "sft"
# Path of each figure in a run's summary.
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
    """Return the figures of a comparison.

    Args:
        summaries: summaries of finished runs, by label (an algorithm or a variant) and seed.

    Returns:
        for every label with a run ``{"algorithm", "seeds", "steps", "flops", "bytes",
        "seconds"}``, and for every measured figure of :data:`COLUMNS`, in percent::

            {"values": one a seed, "mean", "ci95", "minus sft": D,
             "minus best": {"of": label, **D}, "rank"}

        D = ``{"mean", "ci95"}`` is the paired difference. ``ci95`` is the half-width of the 95 %
        t-interval, None for a single seed. The best baseline has the highest mean of the figure
        among the labels of *other algorithms*: a variant's own ablations and controls are no
        baselines of it. It is chosen on the runs it is compared on, which favours it.
    """
    found = {label: runs for label, runs in summaries.items() if runs}
    rows = {label: _costs(runs) for label, runs in found.items()}
    for column in COLUMNS:
        values = {label: column_values(runs, column) for label, runs in found.items()}
        values = {label: measured for label, measured in values.items() if measured}
        ranks = mean_ranks(values)
        algorithm = {label: row["algorithm"] for label, row in rows.items()}
        for label, own in values.items():
            entry: dict[str, Any] = {
                "values": [round(value, 3) for _, value in sorted(own.items())]
            }
            entry |= _figures(interval(list(own.values())))
            reference = values.get(REFERENCE)
            if label != REFERENCE and reference and (gap := paired(own, reference)):
                entry["minus sft"] = _figures(gap)
            best = _best(label, values, algorithm)
            if best and (gap := paired(own, values[best])):
                entry["minus best"] = {"of": best, **_figures(gap)}
            if label in ranks and len(values) > 1:
                entry["rank"] = round(ranks[label], 3)
            rows[label][column] = entry
    return rows


def _best(
    label: str, values: Mapping[str, Mapping[int, float]], algorithm: Mapping[str, str]
) -> str | None:
    """Return the label of another algorithm with the highest mean; the first of equals."""
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
    """Return a figure of :data:`COLUMNS` by seed, in percent, of the runs that measured it."""
    values: dict[int, float] = {}
    for seed, summary in runs.items():
        found: Any = summary
        for part in COLUMNS[column]:
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            values[seed] = 100 * float(found)
    return values


def measured(summaries: Summaries) -> list[str]:
    """Return the metrics of the tasks that runs were evaluated on, sorted."""
    found = {
        metric
        for runs in summaries.values()
        for summary in runs.values()
        for metric in summary["evaluation"].get("metrics", ())
    }
    return sorted(found)


def _figures(found: Interval) -> dict[str, float | None]:
    return {
        "mean": round(found.mean, 3),
        "ci95": None if found.half is None else round(found.half, 3),
    }
