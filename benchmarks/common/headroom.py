"""Say how much of what there was to win a row has won."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedmosaic.experiments.statistics import Interval, interval, paired


def headroom_share(
    own: Mapping[int, float], local: Mapping[int, float], pooled: Mapping[int, float]
) -> Interval | None:
    """Return the share of the headroom that a row has, in percent.

    The share is the ratio of the means over the seeds s that all three have

        R = Σ (own_s − local_s) / Σ (pooled_s − local_s)

    and not the mean of ratios, of which one with a small denominator would decide. Its interval is
    that of the mean of the residuals (own_s − local_s) − R (pooled_s − local_s), divided by the
    mean of pooled_s − local_s (the delta method).

    Args:
        own: accuracy of the row by seed.
        local: accuracy of local training by seed.
        pooled: accuracy of training on all data by seed.

    Returns:
        The share; None without a common seed, and where the headroom is not known well enough to
        divide by: the half-width of the 95 % interval of pooled − local is above half of its mean.
    """
    seeds = sorted(own.keys() & local.keys() & pooled.keys())
    room = paired({s: pooled[s] for s in seeds}, {s: local[s] for s in seeds})
    if room is None or room.mean <= 0 or (room.half or 0.0) > room.mean / 2:
        return None
    gains = [own[s] - local[s] for s in seeds]
    share = math.fsum(gains) / len(gains) / room.mean
    residuals = [
        gain - share * (pooled[s] - local[s]) for gain, s in zip(gains, seeds, strict=True)
    ]
    half = interval(residuals).half
    return Interval(100 * share, None if half is None else 100 * half / room.mean, len(seeds))
