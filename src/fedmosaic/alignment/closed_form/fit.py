"""Fit a model's A and B to the pivot's projections, and report the quality of the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite, Placement
from fedmosaic.alignment.closed_form.moments import (
    MatchedBatch,
    PairMoments,
    SiteMoments,
    add_batch,
    new_moments,
)
from fedmosaic.alignment.closed_form.observe import Observation, fitted_count
from fedmosaic.alignment.closed_form.pivot import random_subspaces
from fedmosaic.alignment.closed_form.solve import (
    canonical_correlations,
    check_sufficient,
    coordinate_correlation,
    fit_procrustes,
    fit_ridge,
    map_pivot_side,
    output_map,
    release_map,
    residual,
)
from fedmosaic.alignment.common import Result, Subspaces
from fedmosaic.config import AlignmentSettings
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone


class Fitting:
    """Collect the moments of one model with the pivot, and solve for its A and B.

    Held-out examples come last and are used for the report only.

    Args:
        model: the model to align.
        layers: its block ends.
        pivot_layers: the pivot's block ends, in the same order.
        settings: how to fit.
        placement: rank and modules.
        examples: number of examples that will be added.

    Attributes:
        sites: the model's adapter sites.
        before: random A and B with which adapters start, for comparison.
        done: number of examples so far.
    """

    def __init__(
        self,
        model: Backbone,
        layers: Sequence[int],
        pivot_layers: Sequence[int],
        settings: AlignmentSettings,
        placement: Placement,
        examples: int,
    ) -> None:
        self.pivot_layers, self.settings = pivot_layers, settings
        self.layers = tuple(layers)
        self.name, self.rank = model.name, placement.r
        self.sites = placement.sites(layers)
        self.before = random_subspaces(model, self.sites, placement.r, settings.seed)
        self.fitted_count = fitted_count(examples, settings)
        self.fitted, self.held_out = new_moments(self.sites), new_moments(self.sites)
        self.done = 0

    def update(self, own: Observation, projected: Observation) -> None:
        """Add a batch: the model's observation and the pivot's projections of the same examples."""
        matched = MatchedBatch(own, projected, self.settings.tokens == "answer")
        add_batch(self.fitted if self.done < self.fitted_count else self.held_out, matched)
        self.done += len(own.origins)

    def solve(self) -> dict[str, Tensor]:
        """Solve for A and B of every site, in float64.

        Both are orthonormal, except for B with ``method: release``.

        Raises:
            DataError: too few matched tokens, or too few directions in them, for the rank.
        """
        found: dict[str, Tensor] = {}
        for key, moments in self.fitted.items():
            try:
                check_sufficient(moments["input"], self.rank, "inputs")
                found[f"{key}.A"] = self._map(moments["input"])
                found[f"{key}.B"] = self._b(key, moments)
            except DataError as error:
                raise DataError(f"aligning {self.name} at {key}: {error}") from error
        return found

    def _b(self, key: str, moments: Mapping[str, PairMoments]) -> Tensor:
        if self.settings.method == "gradients":
            check_sufficient(moments["gradient"], self.rank, "output gradients")
            return self._map(moments["gradient"]).t().contiguous()
        check_sufficient(moments["output"], self.rank, "outputs")
        pivot_b = self._pivot_b(moments["output"])
        if self.settings.method == "outputs":
            return output_map(moments["output"], pivot_b, self.settings.ridge)
        return release_map(moments["output"], self.before[f"{key}.B"], pivot_b, self.settings.ridge)

    def _map(self, moments: PairMoments) -> Tensor:
        return (
            fit_procrustes(moments)
            if self.settings.fit == "procrustes"
            else fit_ridge(moments, self.settings.ridge)
        )

    def _pivot_b(self, outputs: PairMoments) -> Tensor:
        """Return the pivot's B in the coordinates of its projected outputs: the first r."""
        return torch.eye(outputs.other.shape[0], self.rank, dtype=torch.float64)

    def report(self, after: Subspaces) -> list[dict[str, Any]]:
        """Measure A and B before and after alignment at each site, on held-out examples.

        Returns:
            ``block``, ``module``, ``layer``, ``pivot_layer``, and each of the following with
            ``_before`` and ``_after``: ``residual`` of A; ``output_correlation`` and
            ``gradient_correlation`` of B, coordinate by coordinate, which is what one P can use in
            both models; and the weaker ``output_canonical`` and ``gradient_canonical``, the mean
            canonical correlation, which does not change when coordinates are mixed.
        """
        moments: SiteMoments = self.held_out if self.done > self.fitted_count else self.fitted
        return [self._report_site(site, moments[site.key], after) for site in self.sites]

    def _report_site(
        self, site: AdapterSite, pairs: Mapping[str, PairMoments], after: Subspaces
    ) -> dict[str, Any]:
        assert site.block is not None  # all sites of an alignment carry Co-LoRA
        line: dict[str, Any] = {
            "block": site.block, "module": site.module, "layer": site.layer,
            "pivot_layer": self.pivot_layers[site.block],
        }  # fmt: skip
        output = map_pivot_side(pairs["output"], self._pivot_b(pairs["output"]).t())
        for when, subspaces in (("before", self.before), ("after", after)):
            a, b = subspaces[f"{site.key}.A"].double(), subspaces[f"{site.key}.B"].double().t()
            line[f"residual_{when}"] = residual(pairs["input"], a)
            for name, moments in (("output", output), ("gradient", pairs["gradient"])):
                line[f"{name}_correlation_{when}"] = coordinate_correlation(moments, b)
                canonical = canonical_correlations(moments, b)
                line[f"{name}_canonical_{when}"] = float(canonical.mean())
        return line

    def result(self, words: Sequence[str], given: Subspaces | None = None) -> Result:
        """Return A and B in float32, and their report.

        Args:
            words: answer words of the probes; the report counts them.
            given: A and B to report on instead of solving for them; the pivot's own.

        Raises:
            DataError: as :meth:`solve`.
        """
        found = self.solve() if given is None else given
        report = {"sites": self.report(found), "words": len(words)}
        return {key: value.to(torch.float32) for key, value in found.items()}, report
