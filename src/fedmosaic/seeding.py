"""Name every random draw by its purpose, so that no draw depends on the order of others.

A generator is seeded by a hash of its parts, e.g. ``generator(seed, "client-3", 5, "batches")``.
Generator states are never saved. A run that is resumed, or runs in another engine, makes the same
generators from the same names.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_for(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part and on their order, on any machine."""
    text = "\x1f".join([f"{type(part).__name__}:{part}" for part in parts])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU torch generator for the draw that ``parts`` name."""
    import torch  # here, so that settings and data can be read without it

    return torch.Generator().manual_seed(seed_for(*parts))


def rng(*parts: int | str) -> np.random.Generator:
    """Return a NumPy generator for the draw that ``parts`` name."""
    return np.random.default_rng(seed_for(*parts))
