"""Give the rows of the evidence with the learning rates of the published runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.accuracy.evidence_parts import STATIC
from benchmarks.accuracy.evidence_rows import FEDMOSAIC, rows_of_part
from benchmarks.common.paths import read_result
from fedmosaic.experiments.variants import Variant


def variants_of(part: str) -> list[Variant]:
    """Return the variants of all rows of a part, at the learning rate of the scenario."""
    return [row.variant for row in rows_of_part(part)]


def with_rates(variants: Sequence[Variant], chosen: Mapping[str, Sequence[str]]) -> list[Variant]:
    """Return the variants with their chosen rates; a variant without a choice gets FedMosaic's."""
    return [
        Variant(
            v.label, v.algorithm, v.settings + tuple(chosen.get(v.label, chosen[FEDMOSAIC.label]))
        )
        for v in variants
    ]


def published_rates(part: str = STATIC) -> dict[str, list[str]]:
    """Return the settings that each algorithm chose in the published runs of a part."""
    chosen: dict[str, list[str]] = read_result("evidence")[part]["chosen"]
    return chosen


def published_variants(part: str) -> list[Variant]:
    """Return the rows of a part at the published learning rates."""
    rows = read_result("evidence")[part]["rows"]
    known = [variant for variant in variants_of(part) if variant.label in rows]
    return with_rates(known, published_rates(part))
