"""Judge claims by paired differences, for every benchmark that makes any.

A claim says that one row is above one or several others. Differences are paired by seed. The
verdict on a claim about one other row is

- supported, where the whole 95 % interval of the difference is above zero;
- contradicted, where the whole interval is below zero;
- inconclusive otherwise.

A claim about several rows (every baseline) is supported where it is supported for each of them,
and contradicted where it is contradicted for one. No correction is made for their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.common.tables import Values, format_interval, table_head, table_row
from fedmosaic.experiments.statistics import Interval, paired

SUPPORTED, INCONCLUSIVE, CONTRADICTED = "supported", "inconclusive", "contradicted"


@dataclass(frozen=True)
class Claim:
    """State that one row of a result is above others.

    Attributes:
        text: the claim in words.
        label: the row that is claimed to be above.
        above: the rows that it is compared with.
    """

    text: str
    label: str
    above: tuple[str, ...]


def verdict(gaps: Sequence[Interval]) -> str:
    """Return the verdict on the claim that every one of these differences is above zero."""
    sides = [
        0 if gap.half is None or abs(gap.mean) <= gap.half else 1 if gap.mean > 0 else -1
        for gap in gaps
    ]
    if any(side < 0 for side in sides):
        return CONTRADICTED
    return SUPPORTED if all(side > 0 for side in sides) else INCONCLUSIVE


def judge(values: Values, claims: Sequence[Claim], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Judge every claim whose rows are there.

    Args:
        values: accuracies by label, column and seed, in percent.
        claims: the claims.
        columns: the columns to judge each claim on.

    Returns:
        For each claim ``{"claim": its text, "of": number of compared rows, column: {...}}``. A
        column holds the ``verdict``, the number of rows that the claimed one is significantly
        ``above`` and ``below``, and the smallest difference: ``mean``, ``half`` (half-width of
        the interval), ``n`` (number of seeds), and ``closest`` (the row it is a difference to).
    """
    lines: list[dict[str, Any]] = []
    for claim in claims:
        compared = [label for label in claim.above if label in values]
        if claim.label not in values or not compared:
            continue
        line: dict[str, Any] = {"claim": claim.text, "of": len(compared)}
        for column in columns:
            judged = _judge_column(values, claim.label, compared, column)
            if judged is None:  # no seed is finished on both sides
                break
            line[column] = judged
        else:
            lines.append(line)
    return lines


def _judge_column(
    values: Values, label: str, compared: Sequence[str], column: str
) -> dict[str, Any] | None:
    gaps = {other: paired(values[label][column], values[other][column]) for other in compared}
    known = {other: gap for other, gap in gaps.items() if gap is not None}
    if not known:
        return None
    closest = min(known, key=lambda other: known[other].mean)
    verdicts = [verdict([gap]) for gap in known.values()]
    return {
        "verdict": verdict(list(known.values())),
        "closest": closest,
        **vars(known[closest]),
        "above": verdicts.count(SUPPORTED),
        "below": verdicts.count(CONTRADICTED),
    }


def claim_cell(line: Mapping[str, Any], column: str) -> str:
    """Return the verdict on a claim in one column, with the difference that decides it.

    A claim about several rows has their number: those that the claimed row is significantly above,
    and those that it is significantly below. Its difference is the least one.
    """
    entry = line[column]
    gap = format_interval(Interval(entry["mean"], entry["half"], entry["n"]), "+")
    if line["of"] == 1:
        return f"{entry['verdict']} ({gap})"
    counts = f"above {entry['above']} of {line['of']}, below {entry['below']}"
    return f"{entry['verdict']} ({counts}; least {gap}, to {entry['closest']})"


def claims_table(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the verdicts as a Markdown table with a row for each claim."""
    text = table_head("claim", columns)
    text += [table_row([line["claim"], *(claim_cell(line, c) for c in columns)]) for line in lines]
    return "\n".join(text)
