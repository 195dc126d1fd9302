"""Choose the families of a test: a sample, or all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

ALL = os.environ.get("FEDMOSAIC_ALL_FAMILIES") == "1"


def sample(names: Sequence[str], *chosen: str) -> list[str]:
    """Return the chosen names; all names where the variable FEDMOSAIC_ALL_FAMILIES is 1."""
    return list(names) if ALL else [name for name in names if name in chosen]
