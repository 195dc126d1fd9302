"""Add weights to a digest: small tensors whole, large ones by samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

WHOLE = 1 << 18
SAMPLES = 1 << 12


def add_weights(digest: Any, named: Iterable[tuple[str, Tensor]]) -> None:
    """Add named tensors to a digest of :mod:`hashlib`, sorted by name.

    Tensors of up to 2^18 values enter whole. Larger ones enter by about 4,096 evenly spaced values
    each (the stride is odd, so that they fall in all columns). Values enter as float32.
    """
    for name, value in sorted(named, key=lambda entry: entry[0]):
        flat = value.detach().reshape(-1)
        if flat.numel() > WHOLE:
            flat = flat[:: (flat.numel() // SAMPLES) | 1]
        digest.update(f"{name} {list(value.shape)}".encode())
        digest.update(flat.to("cpu", torch.float32).contiguous().numpy().tobytes())
