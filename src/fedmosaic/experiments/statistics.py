"""Compute statistics over a few seeds: means with t-intervals, paired differences, ranks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Hold ``mean ± half``, the confidence interval of a mean.

    Attributes:
        mean: mean of the values.
        half: half-width of the interval; None for a single value.
        n: number of values.
    """

    mean: float
    half: float | None
    n: int


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return Student's interval of the mean.

    The interval is ``mean ± t_{n−1} s/√n`` with s² = Σ(x − mean)²/(n − 1). The values (here, runs
    with different seeds) are taken as independent draws from a normal distribution.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, None, 1)
    t = t_quantile((1 + level) / 2, len(values) - 1)
    return Interval(mean, t * statistics.stdev(values) / math.sqrt(len(values)), len(values))


def paired(
    one: Mapping[int, float], other: Mapping[int, float], level: float = LEVEL
) -> Interval | None:
    """Return the interval of ``one − other`` over the seeds that both have.

    What runs of a seed have in common cancels in the difference.

    Args:
        one: values by seed.
        other: values by seed.
        level: confidence level.

    Returns:
        the interval; None without a common seed.
    """
    gaps = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    return interval(gaps, level) if gaps else None


def mean_ranks(values: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Return the mean over seeds of each name's rank.

    Rank 1 is the highest value; equal values share the mean of their ranks. Only seeds that all
    names have count; without any the result is empty.

    Args:
        values: values by name and seed.
    """
    common = set.intersection(*(set(found) for found in values.values())) if values else set()
    if not common:
        return {}
    ranks: dict[str, list[float]] = {name: [] for name in values}
    for seed in common:
        for name in values:
            own = values[name][seed]
            above = sum(values[other][seed] > own for other in values)
            equal = sum(values[other][seed] == own for other in values)
            ranks[name].append(above + (equal + 1) / 2)
    return {name: math.fsum(found) / len(found) for name, found in ranks.items()}


@cache
def t_quantile(p: float, degrees: int) -> float:
    """Return the p-quantile of Student's t distribution, to about 1e-12.

    Args:
        p: probability in (0, 1).
        degrees: degrees of freedom, at least 1.

    Raises:
        ValueError: an argument out of range.
    """
    if not 0 < p < 1 or degrees < 1:
        raise ValueError(f"no quantile for p = {p} with {degrees} degrees of freedom")
    if p < 0.5:
        return -t_quantile(1 - p, degrees)
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < p:
        low, high = high, 2 * high
    while True:  # until no float lies between
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        low, high = (middle, high) if t_probability(middle, degrees) < p else (low, middle)


def t_probability(t: float, degrees: int) -> float:
    """Return P(T ≤ t) of Student's distribution with ν = ``degrees`` degrees of freedom.

    A finite sum for whole ν. With θ = arctan(t/√ν), P(|T| ≤ t) is, for odd and for even ν
    (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4):

        (2/π) {θ + sin θ [cos θ + (2/3) cos³ θ + … + (2·4⋯(ν−3))/(3·5⋯(ν−2)) cos^{ν−2} θ]}
        sin θ [1 + (1/2) cos² θ + … + (1·3⋯(ν−3))/(2·4⋯(ν−2)) cos^{ν−2} θ]
    """
    theta = math.atan2(t, math.sqrt(degrees))
    odd = degrees % 2
    term = math.cos(theta) if odd else 1.0
    terms = []
    for power in range(odd, degrees - 1, 2):
        terms.append(term)
        term *= math.cos(theta) ** 2 * (power + 1) / (power + 2)
    inside = math.sin(theta) * math.fsum(terms)
    if odd:
        inside = 2 / math.pi * (theta + inside)
    return 0.5 + 0.5 * inside
