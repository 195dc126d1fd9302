"""Claims and their verdicts, for every benchmark that has any.

A claim is a sign of a difference, paired by seed. It *holds* where the whole 95 % interval lies on the claimed side of zero, *does not
hold* where it lies on the other, and else *cannot be told*. A claim about several others at once (every baseline) holds where it holds for
each, and does not hold where it fails for one; no correction is made for how many they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.tables import Values, shown
from fedmosaic.experiments.statistics import Interval, paired

# The claim in words, who, above whom.
Claim = tuple[str, str, tuple[str, ...]]


def verdict(gaps: Sequence[Interval]) -> str:
    """Of a claim that every one of these differences is above zero."""
    sides = [
        0 if gap.half is None or abs(gap.mean) <= gap.half else 1 if gap.mean > 0 else -1
        for gap in gaps
    ]
    if any(side < 0 for side in sides):
        return "does not hold"
    return "holds" if all(side > 0 for side in sides) else "cannot be told"


def judged(values: Values, claims: Sequence[Claim], columns: Sequence[str]) -> list[dict[str, Any]]:
    """A line for each claim whose runs are there: the verdict and the smallest difference of each column."""
    lines: list[dict[str, Any]] = []
    for claim, who, above in claims:
        if who not in values or not (measured := [label for label in above if label in values]):
            continue
        line: dict[str, Any] = {"claim": claim, "of": len(measured)}
        for column in columns:
            gaps = {label: paired(values[who][column], values[label][column]) for label in measured}
            known = {label: gap for label, gap in gaps.items() if gap is not None}
            if not known:  # no seed is finished on both sides
                break
            least = min(known, key=lambda label: known[label].mean)
            told = [verdict([gap]) for gap in known.values()]
            line[column] = {
                "verdict": verdict(list(known.values())), "least": least, **vars(known[least]),
                "above": told.count("holds"), "below": told.count("does not hold"),
            }  # fmt: skip
        else:
            lines.append(line)
    return lines


def claim_cell(line: Mapping[str, Any], column: str) -> str:
    entry = line[column]
    gap = shown(Interval(entry["mean"], entry["half"], entry["n"]), "+")
    if line["of"] == 1:
        return f"{entry['verdict']} ({gap})"
    counts = f"surely above {entry['above']} of {line['of']}, surely below {entry['below']}"
    return f"{entry['verdict']} ({counts}; least {gap}, against {entry['least']})"


def claims_table(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    text = ["| claim | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    text += [
        f"| {line['claim']} | " + " | ".join(claim_cell(line, c) for c in columns) + " |"
        for line in lines
    ]
    return "\n".join(text)
