"""Choose the expert of each input: the client's own model, a peer's adapter, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.relevance.familiarity import Familiarity, distances
from fedmosaic.relevance.prototypes import nearest_owner, owner_distances


@dataclass(frozen=True)
class Nearness:
    """Say how near an input is to a client's own prompts, and to the prototypes of its experts.

    Distances are of standardised features.

    Attributes:
        own: to the nearest own prompt; infinite without own prompts.
        threshold: largest distance to an own prompt of a familiar input; negative: none is.
        experts: to the nearest prototype of each expert, the nearest expert first.
        radius: largest distance to a prototype that is near; negative: none is.
    """

    own: float
    threshold: float
    experts: Mapping[str, float]
    radius: float


@dataclass(frozen=True)
class Router:
    """Give each input to the client itself, to the nearest expert, or to nobody.

    With z the standardised features of an input:

        familiar(z)                                    → the client (:class:`Familiarity`)
        else min_p ‖z − p‖ ≤ reach · R                 → the owner of p, an expert
        else                                           → nobody

    R is the quantile q of the distances of the client's own prompts to their nearest own prototype,
    and at least t, the limit of what is familiar: with few prompts, prototypes lie on them. So what
    is near is learned from the client's own data alone.

    Source: an extension, not in FedMosaic's paper.

    Attributes:
        own: what the client's prompts say of an input.
        experts: standardised prototypes by expert, float64 [k, f] each.
        radius: reach · R; nothing is near where it is negative.
    """

    own: Familiarity
    experts: Mapping[str, Tensor]
    radius: float

    @classmethod
    def of(
        cls,
        own: Familiarity,
        centres: Tensor,
        experts: Mapping[str, Tensor],
        quantile: float,
        reach: float,
    ) -> Router:
        """Return the router of a client.

        Args:
            own: what its prompts say of an input.
            centres: its own prototypes, without noise, [k, f].
            experts: prototypes as received, by expert.
            quantile: q, in (0, 1].
            reach: factor on R.
        """
        scaled = {name: own.scale(found) for name, found in experts.items()}
        if len(own.own) < 2:
            return cls(own, scaled, torch.inf)  # without data of its own the nearest is all it has
        nearest = distances(own.own, own.scale(centres)).min(1).values
        usual = float(nearest.quantile(quantile, interpolation="higher"))
        return cls(own, scaled, reach * max(usual, own.threshold))

    def __call__(self, features: Tensor) -> list[str | None]:
        """Return for each input the expert's name; empty for the client itself, None for nobody."""
        known = self.own(features).tolist()
        if not self.experts:
            return ["" if own else None for own in known]
        names, least = nearest_owner(self.own.scale(features), self.experts)
        near = (least <= self.radius).tolist()
        return [
            "" if own else name if close else None
            for own, name, close in zip(known, names, near, strict=True)
        ]

    def displacement(self, noise_std: float) -> float:
        """Return how far noise moves a prototype as this client sees it: σ ‖1 / std‖.

        It is the root of the expected squared distance, in the scale of the client's own features.

        Args:
            noise_std: σ, standard deviation of the noise in each coordinate of a prototype.
        """
        return noise_std * float(self.own.scale.std.reciprocal().norm())

    def nearness(self, features: Tensor) -> list[Nearness]:
        """Return the distances that decide the choice of each input, from features [m, f]."""
        own, names = self.own.nearest(features).tolist(), list(self.experts)
        rows: list[list[float]] = [[] for _ in own]
        if names and own:
            rows = owner_distances(self.own.scale(features), self.experts).tolist()
        found = []
        for distance, row in zip(own, rows, strict=True):
            experts = dict(sorted(zip(names, row, strict=True), key=lambda pair: pair[1]))
            found.append(Nearness(distance, self.own.threshold, experts, self.radius))
        return found
