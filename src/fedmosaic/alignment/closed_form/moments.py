"""Second moments of what two models do at matched tokens: all that the closed forms for A and B need to know."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.closed_form.observe import Observation

PAIRS = {"input": ("x", "z"), "output": ("y", "y"), "gradient": ("g", "u")}
"""What of the model answers to what of the pivot."""


class Moments:
    """Σ x xᵀ, Σ x zᵀ and Σ z zᵀ over matched tokens, in float64: independent of the order of batches, and of constant size.

    Attributes:
        count: rows summed up. own [d, d], cross [d, e], other [e, e]: the sums divided by it are the uncentred covariances.
    """

    def __init__(self) -> None:
        self.count = 0
        self.own = self.cross = self.other = torch.zeros(0)

    def update(self, first: Tensor, second: Tensor) -> None:
        """Add rows: ``first`` [n, d] of the model, ``second`` [n, e] of the pivot."""
        x, z = first.to("cpu", torch.float64), second.to("cpu", torch.float64)
        if not self.count:
            self.own = x.new_zeros(x.shape[1], x.shape[1])
            self.cross, self.other = (
                x.new_zeros(x.shape[1], z.shape[1]),
                x.new_zeros(z.shape[1], z.shape[1]),
            )
        self.count += len(x)
        self.own.addmm_(x.t(), x)
        self.cross.addmm_(x.t(), z)
        self.other.addmm_(z.t(), z)

    @property
    def energy(self) -> float:
        """Mean squared length of the pivot's rows."""
        return float(self.other.trace()) / max(self.count, 1)


SiteMoments = dict[str, dict[str, Moments]]
"""For each site one :class:`Moments` for each entry of ``PAIRS``."""

Rows = tuple[Tensor, Tensor]
"""Of the model [n, d] and of the pivot [n, e], one row for each group of tokens that answer to one another."""


def new_moments(sites: Sequence[AdapterSite]) -> SiteMoments:
    """Empty moments of all sites."""
    return {site.key: {pair: Moments() for pair in PAIRS} for site in sites}


class Matched:
    """One batch of a model and, of the same examples, of the pivot: rows that answer to one another.

    Inputs and outputs are averaged over the tokens of a group, gradients are added up: a change of the output at every token of
    the group changes ℓ by the sum of them.

    Attributes:
        counts: groups of each example.
    """

    def __init__(self, own: Observation, pivot: Observation, answer_only: bool = False) -> None:
        matchings = own.matchings(pivot)
        if answer_only:
            matchings = [matching.select(matching.answer) for matching in matchings]
        self.own, self.pivot = own, pivot
        self.counts = [matching.count for matching in matchings]
        self._first = _joined([matching.first for matching in matchings], self.counts)
        self._second = _joined([matching.second for matching in matchings], self.counts)

    def rows(self, key: str, pair: str) -> Rows:
        """The rows of a site and one of ``PAIRS``; of gradients one for each group and probe."""
        mine, theirs = PAIRS[pair]
        count, mean = sum(self.counts), pair != "gradient"
        one = _gather(self.own.sites[key][mine], self._first, count, mean)
        two = _gather(self.pivot.sites[key][theirs], self._second, count, mean)
        return one.reshape(-1, one.shape[-1]), two.reshape(-1, two.shape[-1])


def add(moments: SiteMoments, matched: Matched) -> None:
    """Add one batch to the moments of all sites."""
    if sum(matched.counts):
        for key, pairs in moments.items():
            for pair, sums in pairs.items():
                sums.update(*matched.rows(key, pair))


def _joined(groups: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """The groups of all examples' tokens, numbered on from example to example."""
    parts, offset = [], 0
    for group, count in zip(groups, counts, strict=True):
        parts.append(torch.where(group >= 0, group + offset, -1))
        offset += count
    return torch.cat(parts)


def _gather(values: Tensor, groups: Tensor, count: int, mean: bool) -> Tensor:
    """Sum or mean of ``values`` [tokens, …] over each group, [count, …]."""
    groups = groups.to(values.device)
    kept = groups >= 0
    sums = values.new_zeros(count, *values.shape[1:]).index_add_(0, groups[kept], values[kept])
    if not mean:
        return sums
    sizes = torch.bincount(groups[kept], minlength=count).clamp_min(1).to(values.dtype)
    return sums / sizes.view(-1, *[1] * (values.dim() - 1))
