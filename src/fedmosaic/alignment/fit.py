"""Fit a model's A and B to what a pivot shows, from one streamed pass over the public data, and report what that bought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from fedmosaic.alignment.moments import Moments, SiteMoments, add, new_moments
from fedmosaic.alignment.observe import Observation, Subspaces, fitted_count
from fedmosaic.alignment.sites import Site
from fedmosaic.alignment.solve import (
    canonical_correlations,
    coordinate_correlation,
    enough,
    fit_procrustes,
    fit_ridge,
    output_map,
    release_map,
    residual,
    seen_through,
)
from fedmosaic.config import AlignmentSettings


class Fitting:
    """Collects the moments of one model with the pivot; the last share ``held_out`` of the examples only serves the report.

    Args:
        sites, pivot_sites: of the model and, in the same order, of the pivot.
        before: the model's A and B without alignment, orthonormal. pivot: those of the pivot.
        examples: how many there will be.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        pivot_sites: Sequence[Site],
        before: Subspaces,
        pivot: Subspaces,
        settings: AlignmentSettings,
        examples: int,
    ) -> None:
        self.sites, self.pivot_sites = sites, pivot_sites
        self.before, self.pivot, self.settings = before, pivot, settings
        self.fitted_count = fitted_count(examples, settings)
        self.fitted, self.held_out = new_moments(sites), new_moments(sites)
        self.seen = 0

    def update(self, own: Observation, pivot: Observation) -> None:
        """Take a batch of the model's own numbers and the pivot's of the same examples."""
        target = self.fitted if self.seen < self.fitted_count else self.held_out
        add(target, own, pivot, self.settings.tokens == "answer")
        self.seen += len(own.origins)

    def solve(self) -> dict[str, Tensor]:
        """A and B of every site, float64; orthonormal, but for the ``release``'s B.

        Raises:
            DataError: too few matched tokens, or too few directions in them, for the rank.
        """
        enough(self.fitted, self.settings.rank)
        found: dict[str, Tensor] = {}
        for key, moments in self.fitted.items():
            found[f"{key}.A"] = self._map(moments["input"])
            found[f"{key}.B"] = self._b(key, moments)
        return found

    def _b(self, key: str, moments: Mapping[str, Moments]) -> Tensor:
        pivot_b, strength = self.pivot[f"{key}.B"], self.settings.ridge
        if self.settings.method == "outputs":
            return output_map(moments["output"], pivot_b, strength)
        if self.settings.method == "release":
            return release_map(moments["output"], self.before[f"{key}.B"], pivot_b, strength)
        return self._map(moments["gradient"]).t().contiguous()

    def _map(self, moments: Moments) -> Tensor:
        return fit_procrustes(moments) if self.settings.fit == "procrustes" else fit_ridge(moments, self.settings.ridge)

    def report(self, after: Subspaces) -> list[dict[str, Any]]:
        """For each site what held-out examples say of the pairs before and after alignment.

        Returns:
            ``block``, ``module``, ``layer``, ``pivot_layer``, and each of the following ``_before`` and ``_after``: ``residual`` of A;
            ``output_correlation`` and ``gradient_correlation`` of B, coordinate by coordinate, which is what one P can use in both
            models; and the weaker ``…_canonical``, the mean canonical correlation, which any mixing of coordinates leaves alone.
        """
        moments: SiteMoments = self.held_out if self.seen > self.fitted_count else self.fitted
        lines = []
        for site, partner in zip(self.sites, self.pivot_sites, strict=True):
            line: dict[str, Any] = {
                "block": site.block, "module": site.module, "layer": site.layer, "pivot_layer": partner.layer,
            }  # fmt: skip
            pairs = moments[site.key]
            output = seen_through(pairs["output"], self.pivot[f"{site.key}.B"].t())
            for when, subspaces in (("before", self.before), ("after", after)):
                a, b = subspaces[f"{site.key}.A"].double(), subspaces[f"{site.key}.B"].double().t()
                line[f"residual_{when}"] = residual(pairs["input"], a)
                for name, seen in (("output", output), ("gradient", pairs["gradient"])):
                    line[f"{name}_correlation_{when}"] = coordinate_correlation(seen, b)
                    line[f"{name}_canonical_{when}"] = float(canonical_correlations(seen, b).mean())
            lines.append(line)
        return lines


def fit(fitting: Fitting, own: Iterable[Observation], pivot: Iterable[Observation]) -> dict[str, Tensor]:
    """Run both passes side by side and solve: what a site of a deployment does with what the pivot published."""
    for mine, theirs in zip(own, pivot, strict=True):
        fitting.update(mine, theirs)
    return fitting.solve()
