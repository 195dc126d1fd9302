"""Decide whether an input resembles the prompts that a client has trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR = 1e-6
"""Least standard deviation of a feature: a constant one then counts for nothing within the data."""


@dataclass(frozen=True)
class Standardised:
    """Scale features by the mean and standard deviation that a client's own prompts have.

    Attributes:
        mean: float64 [f].
        std: float64 [f].
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, own: Tensor) -> Standardised:
        """Return the scale of features [n, f]; without two rows it changes nothing."""
        if len(own) < 2:
            width = own.shape[1]
            return cls(torch.zeros(width).double(), torch.ones(width).double())
        wide = own.double()
        return cls(wide.mean(0), wide.std(0).clamp_min(FLOOR))

    def __call__(self, features: Tensor) -> Tensor:
        """Return standardised features, float64 [m, f]."""
        return (features.double() - self.mean) / self.std


def distances(left: Tensor, right: Tensor) -> Tensor:
    """Return the Euclidean distances between rows, [n, m], in the precision of the rows."""
    return torch.cdist(left, right, compute_mode="use_mm_for_euclid_dist_if_necessary")


@dataclass(frozen=True)
class Familiarity:
    """Tell inputs that resemble a client's own prompts from others.

    With z standardised features, Z those of the n own prompts and q a quantile:

        familiar(z) = min_i ‖z − Z_i‖ ≤ quantile_q { min_{j≠i} ‖Z_i − Z_j‖ : i = 1…n }

    Source: an extension, not in FedMosaic's paper.

    Attributes:
        scale: the client's own.
        own: its standardised prompts, float64 [n, f].
        threshold: largest distance of a familiar input; negative where nothing is familiar.
    """

    scale: Standardised
    own: Tensor
    threshold: float

    @classmethod
    def of(cls, prompts: Tensor, quantile: float = 0.99, limit: int = 2000) -> Familiarity:
        """Return what the features of a client's prompts say of new inputs.

        Args:
            prompts: [n, f], in order of arrival. With fewer than two nothing is familiar.
            quantile: q, in (0, 1].
            limit: most prompts that count, evenly drawn.
        """
        if len(prompts) > limit:
            prompts = prompts[torch.linspace(0, len(prompts) - 1, limit).round().long()]
        scale = Standardised.of(prompts)
        own = scale(prompts)
        if len(own) < 2:
            return cls(scale, own, -1.0)
        between = distances(own, own).fill_diagonal_(torch.inf)
        threshold = between.min(1).values.quantile(quantile, interpolation="higher")
        return cls(scale, own, float(threshold))

    def nearest(self, features: Tensor) -> Tensor:
        """Return how far the nearest own prompt is from each input, float64 [m].

        Args:
            features: of the inputs, [m, f].

        Returns:
            the distances; infinite without own prompts.
        """
        if not len(self.own) or not len(features):
            return torch.full((len(features),), torch.inf, dtype=torch.float64)
        parts = self.scale(features).split(1024)
        return torch.cat([distances(part, self.own).min(1).values for part in parts])

    def __call__(self, features: Tensor) -> Tensor:
        """Return whether each input is familiar, bool [m], from features [m, f]."""
        return self.nearest(features) <= self.threshold
