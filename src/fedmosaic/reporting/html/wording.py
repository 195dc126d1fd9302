"""Put numbers and names into words."""

from __future__ import annotations

from collections.abc import Sequence

from fedmosaic.experiments.statistics import Interval

# What each column of a comparison is measured on.
TASKS = {"Self": "own tasks", "Others": "the other clients' tasks"}


def is_above(gap: Interval | None) -> bool:
    """Return whether a difference is significantly above zero: its whole interval is."""
    return gap is not None and gap.half is not None and gap.mean - gap.half > 0


def is_below(gap: Interval | None) -> bool:
    """Return whether a difference is significantly below zero: its whole interval is."""
    return gap is not None and gap.half is not None and gap.mean + gap.half < 0


def outcome(gap: Interval | None) -> str:
    """Say what a difference means for the claim that it is above zero."""
    if is_above(gap):
        return "supported"
    return "contradicted" if is_below(gap) else "inconclusive"


def points(gap: Interval | None) -> str:
    """Format a difference of scores as ``+2.0 ± 2.5 points``."""
    if gap is None:
        return "an unknown number of points"
    half = "" if gap.half is None else f" ± {gap.half:.1f}"
    return f"{round(gap.mean, 1) + 0.0:+.1f}{half} points".replace("-", "−")


def percent_of(share: Interval) -> str:
    """Format a share from 0 to 1 as ``65 ± 3 %``."""
    half = "" if share.half is None else f" ± {100 * share.half:.0f}"
    return f"{100 * share.mean:.0f}{half} %"


def count(number: int, noun: str) -> str:
    """Format a number of things, with the noun in the right form."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(names: Sequence[str]) -> str:
    """Join names as ``a``, ``a and b`` or ``a, b, c and 3 more``."""
    if len(names) > 4:
        return ", ".join(names[:3]) + f" and {len(names) - 3} more"
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
