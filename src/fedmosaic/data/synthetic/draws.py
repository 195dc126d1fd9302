"""Draw from lists of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    """Return one of the values, all equally likely."""
    return values[int(rng.integers(len(values)))]


def sample(rng: np.random.Generator, values: Sequence[T], count: int) -> list[T]:
    """Return ``count`` different values in random order."""
    return [values[int(index)] for index in rng.permutation(len(values))[:count]]
