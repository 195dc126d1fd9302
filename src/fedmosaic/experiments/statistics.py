"""Statistics over a few seeds: means with t-intervals, paired differences, ranks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """``mean ± half``: the mean of n values and the half-width of its confidence interval (None for a single value)."""

    mean: float
    half: float | None
    n: int


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's interval of the mean, ``mean ± t_{n−1} s/√n`` with s² = Σ(x − mean)²/(n − 1).

    Values are taken as independent draws of a normal distribution, here: runs with different seeds.

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
    """The interval of ``one − other`` over the seeds that both have: what the seeds share cancels. None without any."""
    gaps = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    return interval(gaps, level) if gaps else None


def mean_ranks(values: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Mean over seeds of everyone's rank (1: highest; equal values share the mean of their ranks).

    Only seeds that everyone has count; without any the result is empty.
    """
    common = set.intersection(*(set(found) for found in values.values())) if values else set()
    if not common:
        return {}
    ranks: dict[str, list[float]] = {name: [] for name in values}
    for seed in common:
        for name in values:
            mine = values[name][seed]
            above = sum(values[other][seed] > mine for other in values)
            equal = sum(values[other][seed] == mine for other in values)
            ranks[name].append(above + (equal + 1) / 2)
    return {name: math.fsum(found) / len(found) for name, found in ranks.items()}


@cache
def t_quantile(p: float, degrees: int) -> float:
    """The value below which Student's t with so many degrees of freedom falls with probability p, to about 1e-12.

    Raises:
        ValueError: p is not in (0, 1), or there is no degree of freedom.
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
    """P(T ≤ t) of Student's distribution with a whole number of degrees of freedom ν, as a finite sum.

    With θ = arctan(t/√ν), P(|T| ≤ t) is, for odd and for even ν (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4):

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
    within = math.sin(theta) * math.fsum(terms)
    if odd:
        within = 2 / math.pi * (theta + within)
    return 0.5 + 0.5 * within
