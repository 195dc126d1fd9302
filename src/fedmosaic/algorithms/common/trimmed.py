"""Average rows without their largest and smallest numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def trimmed_mean(
    rows: Callable[[slice], Tensor], number: int, values: int, dropped: int, in_memory: int
) -> Tensor:
    """Return the mean of each column without its ``dropped`` largest and smallest numbers.

    The numbers that stay are added in float64.

    Args:
        rows: returns some of the rows, float32 [rows, values].
        number: of the rows.
        values: of a row.
        dropped: numbers left out at each end; less than half of ``number``.
        in_memory: number of whole rows that fit into memory. With fewer than ``number``, the rows
            are read anew for each block of columns.

    Returns:
        float32 [values].
    """
    if in_memory >= number:
        return _without_ends(rows(slice(None)), dropped)
    columns = max(1, values * in_memory // number)
    parts = []
    for start in range(0, values, columns):
        block = [rows(slice(row, row + 1))[:, start : start + columns] for row in range(number)]
        parts.append(_without_ends(torch.cat(block), dropped))
    return torch.cat(parts) if parts else torch.empty(0)


def _without_ends(block: Tensor, dropped: int) -> Tensor:
    ordered = block.sort(0).values
    return ordered[dropped : len(block) - dropped].double().mean(0).float()
