"""Fit a model's A and B to what a pivot shows, from one streamed pass over the public data, and report what that bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment.closed_form.descent import Descent
from fedmosaic.alignment.closed_form.moments import Matched, Moments, SiteMoments, add, new_moments
from fedmosaic.alignment.closed_form.observe import Observation, Subspaces, fitted_count
from fedmosaic.alignment.closed_form.pivot import random_subspaces
from fedmosaic.alignment.closed_form.solve import (
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
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone


class Fitting:
    """Collects the moments of one model with the pivot; the examples held out, which come last, only serve the report.

    Args:
        layers, pivot_layers: where the blocks of the model and, in the same order, of the pivot end.
        examples: how many there will be.
    """

    def __init__(
        self,
        model: Backbone,
        layers: Sequence[int],
        pivot_layers: Sequence[int],
        settings: AlignmentSettings,
        examples: int,
    ) -> None:
        self.layers, self.pivot_layers, self.settings = layers, pivot_layers, settings
        self.name = model.name
        self.sites = sites_of(layers, settings.modules)
        self.before = random_subspaces(model, self.sites, settings.rank, settings.seed)
        self.fitted_count = fitted_count(examples, settings)
        self.fitted, self.held_out = new_moments(self.sites), new_moments(self.sites)
        self.descent = Descent(self.before) if settings.fit == "descent" else None
        self.seen = 0

    def update(self, own: Observation, shown: Observation) -> None:
        """Take a batch of the model's own numbers and, of the same examples, what the pivot shows."""
        matched = Matched(own, shown, self.settings.tokens == "answer")
        if self.seen < self.fitted_count:
            add(self.fitted, matched)
            if self.descent is not None:
                self.descent.update(matched)
        else:
            add(self.held_out, matched)
        self.seen += len(own.origins)

    def solve(self) -> dict[str, Tensor]:
        """A and B of every site, float64; orthonormal, but for the ``release``'s B.

        Raises:
            DataError: too few matched tokens, or too few directions in them, for the rank.
        """
        found: dict[str, Tensor] = {}
        for key, moments in self.fitted.items():
            try:
                found[f"{key}.A"] = self._a(key, moments["input"])
                found[f"{key}.B"] = self._b(key, moments)
            except DataError as error:
                raise DataError(f"aligning {self.name} at {key}: {error}") from error
        return found

    def _a(self, key: str, inputs: Moments) -> Tensor:
        enough(inputs, self.settings.rank, "inputs")
        return self._map(inputs) if self.descent is None else self.descent.solve(key)

    def _b(self, key: str, moments: Mapping[str, Moments]) -> Tensor:
        if self.settings.method == "gradients":
            enough(moments["gradient"], self.settings.rank, "output gradients")
            return self._map(moments["gradient"]).t().contiguous()
        enough(moments["output"], self.settings.rank, "outputs")
        pivot_b = self._pivot_b(moments["output"])
        if self.settings.method == "outputs":
            return output_map(moments["output"], pivot_b, self.settings.ridge)
        return release_map(moments["output"], self.before[f"{key}.B"], pivot_b, self.settings.ridge)

    def _map(self, moments: Moments) -> Tensor:
        return (
            fit_procrustes(moments)
            if self.settings.fit == "procrustes"
            else fit_ridge(moments, self.settings.ridge)
        )

    def _pivot_b(self, outputs: Moments) -> Tensor:
        """The pivot's B in the coordinates in which it shows its outputs: the first r."""
        return torch.eye(outputs.other.shape[0], self.settings.rank, dtype=torch.float64)

    def report(self, after: Subspaces) -> list[dict[str, Any]]:
        """For each site what held-out examples say of the pairs before and after alignment.

        Returns:
            ``block``, ``module``, ``layer``, ``pivot_layer``, and each of the following ``_before`` and ``_after``: ``residual`` of A;
            ``output_correlation`` and ``gradient_correlation`` of B, coordinate by coordinate, which is what one P can use in both
            models; and the weaker ``…_canonical``, the mean canonical correlation, which any mixing of coordinates leaves alone.
        """
        moments: SiteMoments = self.held_out if self.seen > self.fitted_count else self.fitted
        lines = []
        for site in self.sites:
            assert site.block is not None  # all sites of an alignment carry Co-LoRA
            line: dict[str, Any] = {
                "block": site.block, "module": site.module, "layer": site.layer,
                "pivot_layer": self.pivot_layers[site.block],
            }  # fmt: skip
            pairs = moments[site.key]
            output = seen_through(pairs["output"], self._pivot_b(pairs["output"]).t())
            for when, subspaces in (("before", self.before), ("after", after)):
                a, b = subspaces[f"{site.key}.A"].double(), subspaces[f"{site.key}.B"].double().t()
                line[f"residual_{when}"] = residual(pairs["input"], a)
                for name, seen in (("output", output), ("gradient", pairs["gradient"])):
                    line[f"{name}_correlation_{when}"] = coordinate_correlation(seen, b)
                    line[f"{name}_canonical_{when}"] = float(canonical_correlations(seen, b).mean())
            lines.append(line)
        return lines

    def result(
        self, words: Sequence[str], known: Subspaces | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A and B in float32, solved for unless they are ``known``, and all that the report can say without the pivot.

        Raises:
            DataError: as :meth:`solve`.
        """
        found = self.solve() if known is None else known
        report = {"sites": self.report(found), "layers": list(self.layers), "words": len(words)}
        return {key: value.to(torch.float32) for key, value in found.items()}, report
