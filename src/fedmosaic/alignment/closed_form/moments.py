"""Accumulate the second moments of two models at corresponding tokens.

They are all that the closed forms for A and B need from the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.closed_form.observe import Observation

PAIRS = {"input": ("x", "z"), "output": ("y", "y"), "gradient": ("g", "u")}
"""For each kind of row: the model's quantity and the pivot's quantity that it is paired with."""


class PairMoments:
    """Accumulate Σ x xᵀ, Σ x zᵀ and Σ z zᵀ over matched tokens, in float64.

    The size is constant, and the result does not depend on the order of batches. Divided by
    ``count`` the sums are the uncentred covariances.

    Attributes:
        count: number of accumulated rows.
        own: [d, d], Σ x xᵀ of the model.
        cross: [d, e], Σ x zᵀ.
        other: [e, e], Σ z zᵀ of the pivot.
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


SiteMoments = dict[str, dict[str, PairMoments]]
"""For each site one :class:`PairMoments` for each entry of ``PAIRS``."""

Rows = tuple[Tensor, Tensor]
"""Rows of the model [n, d] and of the pivot [n, e]: one for each group of corresponding tokens."""


def new_moments(sites: Sequence[AdapterSite]) -> SiteMoments:
    """Return empty moments for all sites."""
    return {site.key: {pair: PairMoments() for pair in PAIRS} for site in sites}


class MatchedBatch:
    """Pair the rows of a model and of the pivot on the same batch of examples.

    Inputs and outputs are averaged over the tokens of a group. Gradients are added up: a change of
    the output at every token of the group changes the probe by the sum of them.

    Args:
        own: the model's observation.
        pivot: the pivot's projected observation of the same examples.
        answer_only: use only the groups of the answers.

    Attributes:
        counts: number of groups in each example.
    """

    def __init__(self, own: Observation, pivot: Observation, answer_only: bool = False) -> None:
        matchings = own.matchings(pivot)
        if answer_only:
            matchings = [matching.select(matching.answer) for matching in matchings]
        self.own, self.pivot = own, pivot
        self.counts = [matching.count for matching in matchings]
        self._first = _concatenate([matching.first for matching in matchings], self.counts)
        self._second = _concatenate([matching.second for matching in matchings], self.counts)

    def rows(self, key: str, pair: str) -> Rows:
        """Return the rows of a site for one of ``PAIRS``: one a group, or one a group and probe."""
        own_quantity, pivot_quantity = PAIRS[pair]
        count, mean = sum(self.counts), pair != "gradient"
        one = _reduce_groups(self.own.sites[key][own_quantity], self._first, count, mean)
        two = _reduce_groups(self.pivot.sites[key][pivot_quantity], self._second, count, mean)
        return one.reshape(-1, one.shape[-1]), two.reshape(-1, two.shape[-1])


def add_batch(moments: SiteMoments, matched: MatchedBatch) -> None:
    """Add one batch to the moments of all sites."""
    if sum(matched.counts):
        for key, pairs in moments.items():
            for pair, sums in pairs.items():
                sums.update(*matched.rows(key, pair))


def _concatenate(groups: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Concatenate the token groups of all examples, numbered on from example to example."""
    parts, offset = [], 0
    for group, count in zip(groups, counts, strict=True):
        parts.append(torch.where(group >= 0, group + offset, -1))
        offset += count
    return torch.cat(parts)


def _reduce_groups(values: Tensor, groups: Tensor, count: int, mean: bool) -> Tensor:
    """Sum or average ``values`` [tokens, …] over each group, [count, …]."""
    groups = groups.to(values.device)
    used = groups >= 0
    sums = values.new_zeros(count, *values.shape[1:]).index_add_(0, groups[used], values[used])
    if not mean:
        return sums
    sizes = torch.bincount(groups[used], minlength=count).clamp_min(1).to(values.dtype)
    return sums / sizes.view(-1, *[1] * (values.dim() - 1))
