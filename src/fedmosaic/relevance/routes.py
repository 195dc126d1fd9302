"""Choose the expert of each input: the client's own model, a peer's adapter, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.relevance.familiarity import Familiarity, distances
from fedmosaic.relevance.prototypes import nearest_owner


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
