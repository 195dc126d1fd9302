"""Summarise a client's prompts by a few prototypes, and find the nearest ones of an input."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fedmosaic.relevance.familiarity import distances

ITERATIONS = 20


def prototypes(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return centres of k-means over features, float32 [count, f].

    With fewer rows than ``count`` every row is a centre, and rows repeat; without rows the centres
    are zeros.

    Args:
        features: [n, f].
        count: k, number of prototypes.
        generator: draws the first centres (k-means++).
    """
    if not len(features):
        return torch.zeros(count, features.shape[1])
    if len(features) <= count:
        return features[torch.arange(count) % len(features)].clone()
    from scipy.cluster.vq import kmeans2  # takes a while to import

    seed = int(torch.randint(2**31, (1,), generator=generator))
    with warnings.catch_warnings():  # an empty cluster stays where it began, at one of the rows
        warnings.simplefilter("ignore")
        centres, _ = kmeans2(
            features.double().numpy(),
            count,
            iter=ITERATIONS,
            minit="++",
            rng=np.random.default_rng(seed),
        )
    return torch.from_numpy(centres).float()


def parts_of(centres: Tensor, count: int) -> Tensor:
    """Return the part of each prototype, int64 [k], by Ward's clustering.

    Parts are counted from 0 in the order of their first prototypes.

    Args:
        centres: prototypes, standardised, [k, f].
        count: most parts; equal prototypes are in one part.
    """
    if count == 1 or len(centres) < 2:
        return torch.zeros(len(centres), dtype=torch.int64)
    from scipy.cluster.hierarchy import fcluster, linkage  # takes a while to import

    found = fcluster(linkage(centres.double().numpy(), "ward"), count, "maxclust").tolist()
    number = {part: place for place, part in enumerate(dict.fromkeys(found))}
    return torch.tensor([number[part] for part in found])


def owner_distances(inputs: Tensor, owned: Mapping[str, Tensor]) -> Tensor:
    """Return the distance of each input to the nearest prototype of each owner, float64 [m, n].

    Args:
        inputs: features, standardised as the prototypes are, [m, f].
        owned: prototypes by owner, [k, f] each; at least one owner.
    """
    return torch.stack([distances(inputs, own).min(1).values for own in owned.values()], 1)


def nearest_owner(inputs: Tensor, owned: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
    """Return for each input who owns the nearest prototype, and its distance, float64 [m].

    Args:
        inputs: as of :func:`owner_distances`.
        owned: as there. Of equals the first counts.
    """
    names = list(owned)
    least = owner_distances(inputs, owned).min(1)
    return [names[place] for place in least.indices.tolist()], least.values


def useful_owners(
    own: Tensor,
    offered: Mapping[str, Tensor],
    cost: Mapping[str, int],
    *,
    most: int | None = None,
    budget: int | None = None,
) -> list[str]:
    """Choose whose prototypes cover best what the own ones leave uncovered.

    With D_p the distance of prototype p, of all that are offered, to the nearest own or chosen one,
    owners are chosen one by one: the next is the one with the largest fall of Σ_p D_p for each byte
    (greedy facility location). An owner that costs more than is left of the budget is passed over.

    Args:
        own: the receiver's prototypes, [k, f]; without any, everything is as far as can be.
        offered: prototypes by owner, [k, f] each.
        cost: bytes by owner, above 0.
        most: most owners; None: as many as fit.
        budget: most bytes of all chosen; None: no limit.

    Returns:
        the owners, the most useful first.
    """
    if not offered:
        return []
    every = torch.cat(list(offered.values())).double()
    covered = _uncovered(every) if not len(own) else distances(every, own.double()).min(1).values
    reach = {
        name: distances(every, theirs.double()).min(1).values for name, theirs in offered.items()
    }
    chosen: list[str] = []
    left = budget
    while most is None or len(chosen) < most:
        able = [n for n in offered if n not in chosen and (left is None or cost[n] <= left)]
        if not able:
            break
        gain = {name: float((covered - reach[name]).clamp_min(0).sum()) for name in able}
        best = max(able, key=lambda name: gain[name] / cost[name])
        chosen.append(best)
        covered = torch.minimum(covered, reach[best])
        left = None if left is None else left - cost[best]
    return chosen


def _uncovered(every: Tensor) -> Tensor:
    """Return the largest distance between any two for each."""
    return distances(every, every).max().expand(len(every))


def permuted(names: Sequence[str]) -> dict[str, str]:
    """Return for each name the next one in the list, as a control: nobody keeps its own."""
    return dict(zip(names, [*names[1:], *names[:1]], strict=True))
