"""Align with small settings, compare the results and clear the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedmosaic.alignment import Alignment, align
from fedmosaic.alignment.common import Progress
from fedmosaic.alignment.standalone import StandaloneSettings
from fedmosaic.alignment.store import cache_folder
from fedmosaic.data import Example
from fedmosaic.models.backbone import Backbone


def small(**changes: Any) -> StandaloneSettings:
    """Return settings with rank 4 on two blocks, unless changed."""
    return StandaloneSettings(**{"r": 4, "num_blocks": 2, **changes})


def align_small(
    models: Sequence[Backbone],
    pivot: Backbone,
    examples: Sequence[Example],
    progress: Progress | None = None,
    **changes: Any,
) -> list[Alignment]:
    """Align with :func:`small` settings."""
    chosen = small(**changes)
    return align(models, pivot, examples, chosen.alignment, chosen.placement, progress)


def max_difference(one: Alignment, two: Alignment) -> float:
    assert one.tensors.keys() == two.tensors.keys()
    return max(float((one.tensors[key] - two.tensors[key]).abs().max()) for key in one.tensors)


def clear_cache() -> None:
    for path in cache_folder().glob("*"):
        path.unlink()
