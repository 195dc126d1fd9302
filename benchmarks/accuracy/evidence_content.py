"""Make the content of the evidence's tables from the stored runs: rows, shares, verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.evidence_claims import CLAIMS
from benchmarks.accuracy.evidence_file import CONFLICTING, FIGURES, as_summary
from benchmarks.accuracy.evidence_parts import ALL_SEEDS
from benchmarks.accuracy.evidence_rows import (
    FEDMOSAIC,
    LOCAL,
    POOLED,
    ROWS,
    EvidenceRow,
    rows_of_part,
)
from benchmarks.accuracy.evidence_store import PartStore
from benchmarks.common.claims import judge
from benchmarks.common.headroom import headroom_share
from benchmarks.common.tables import Values, values_by_seed
from fedmosaic.experiments.summaries import compare_summaries

MAIN = ("Self", "Others")
# What a comparison says of a row and the evidence does not show.
NOT_SHOWN = ("minus best", "rank")
# The row and the view of each label.
SHOWN = {row.shown_as(view): (row, view) for row in ROWS for view in row.shown}

Runs = Mapping[str, Mapping[int, Mapping[str, Any]]]  # stored runs by label of a row and seed


def standing_runs(store: PartStore) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Return all finished runs of a part that stand."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows_of_part(store.part):
        runs = {seed: store.standing(row, seed) for seed in ALL_SEEDS}
        done = {seed: run for seed, run in runs.items() if run and "failed" not in run}
        if done:
            found[row.label] = done
    return found


def unfinished_rows(store: PartStore) -> list[str]:
    """Return the labels of which a seed has no run that stands; one that failed is finished."""
    return [
        row.label
        for row in rows_of_part(store.part)
        if any(store.standing(row, seed) is None for seed in ALL_SEEDS)
    ]


def compared_rows(part: str, runs: Runs) -> dict[str, Any]:
    """Compare all rows of a part that have a run.

    Rows with their own view come first, in the order of tables, then their further views.
    """
    rows = [row for row in rows_of_part(part) if row.label in runs]
    order = [(row, row.view) for row in rows]
    order += [(row, view) for row in rows for view in row.shown if view != row.view]
    found: dict[str, dict[int, Any]] = {}
    conflicting: dict[str, list[float]] = {}
    for row, view in order:
        done = {seed: run for seed, run in sorted(runs[row.label].items()) if view in run["views"]}
        if done:
            label = row.shown_as(view)
            algorithm = row.variant.algorithm
            found[label] = {seed: as_summary(algorithm, run, view) for seed, run in done.items()}
            values = [run["views"][view].get(CONFLICTING) for run in done.values()]
            conflicting[label] = [value for value in values if value is not None]
    compared: dict[str, Any] = compare_summaries(found)
    for label, row in compared.items():
        if conflicting[label]:
            row[CONFLICTING] = {"values": conflicting[label]}
        for column in FIGURES:
            for name in NOT_SHOWN:
                row[column].pop(name, None)
    return compared


def headroom_shares(values: Values) -> dict[str, dict[str, Any]]:
    """Return the share of the headroom of each row, on Self and Others, where there is any."""
    found: dict[str, dict[str, Any]] = {}
    if not {LOCAL, POOLED} <= values.keys():
        return found
    for label, own in values.items():
        for column in MAIN:
            share = headroom_share(own[column], values[LOCAL][column], values[POOLED][column])
            if share is not None and label not in (LOCAL, POOLED):
                found.setdefault(label, {})[column] = vars(share)
    return found


def judged_columns(rows: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that claims are judged on."""
    conflicting = all(CONFLICTING in row for row in rows.values())
    return (*FIGURES, CONFLICTING) if conflicting else FIGURES


def judged_claims(rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Judge every claim whose rows are there."""
    every = [claim for claims in CLAIMS.values() for claim in claims]
    columns = judged_columns(rows)
    return judge(values_by_seed(rows, columns), every, columns)


def content_of(store: PartStore, leave_out: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the content of a part; None without runs.

    Args:
        store: what is stored of the part.
        leave_out: labels of rows that do not count.

    Returns:
        ``{"rows", "chosen", "headroom", "claims", "left out"}``: figures by label, learning rates
        by label where they are not FedMosaic's, shares of the headroom by label and column,
        verdicts, ``leave_out``.
    """
    found = standing_runs(store)
    runs = {label: row for label, row in found.items() if label not in leave_out}
    rows = compared_rows(store.part, runs)
    if not rows:
        return None
    chosen = {
        row.label: list(rate)
        for row in rows_of_part(store.part)
        if row.label in runs
        and row.rate_of != FEDMOSAIC.label
        and (rate := store.chosen(row)) is not None
    }
    return {
        "rows": rows,
        "chosen": chosen,
        "headroom": headroom_shares(values_by_seed(rows)),
        "claims": judged_claims(rows),
        "left out": list(leave_out),
    }


def labels_of(rows: Mapping[str, Any], kind: str) -> list[str]:
    """Return the labels whose row is of a kind and that show its own view."""
    return [label for label in rows if _shows(label, kind)]


def _shows(label: str, kind: str) -> bool:
    row, view = SHOWN[label]
    return row.kind == kind and view == row.view


def other_views(rows: Mapping[str, Any]) -> list[tuple[str, EvidenceRow, str]]:
    """Return the labels that show a further view of a row, with the row and the view."""
    return [(label, *SHOWN[label]) for label in rows if SHOWN[label][1] != SHOWN[label][0].view]
