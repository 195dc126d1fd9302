"""Lay sequences that begin alike out as trees of tokens, so that each token is computed once.

Sequences are sorted, so that those with the longest common beginning are neighbours. Each adds to
its row only the tokens after what it shares with the one before it. A token attends to itself and
to the tokens before it in its own sequence. Its position is the number of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class TreeRow:
    """Hold the trees of one row of a batch.

    Attributes:
        tokens: For each of N tokens the sequence that brought it and its place in that sequence,
            [N, 2].
        seen: Whether token i attends to token j, bool [N, N].
        paths: For each sequence of the row the places of its tokens in the row.
    """

    tokens: Numbers
    seen: NDArray[np.bool_]
    paths: dict[int, Numbers]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class RowPlan:
    """State which sequences a row holds, before it is made.

    Attributes:
        sequences: Index of each sequence, and how many tokens it shares with the one before it.
        lengths: Tokens of each of these sequences.
    """

    sequences: tuple[tuple[int, int], ...]
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.lengths) - sum(count for _, count in self.sequences)

    def make(self) -> TreeRow:
        """Return the row."""
        return _row(self.sequences, self.lengths, len(self))


def plan_rows(keys: Sequence[Numbers], width: int) -> list[RowPlan]:
    """Return plans of rows with the trees of all sequences.

    Attention takes the square of a row's tokens, so that a row must end somewhere; the next one
    computes again what its sequences share with those before.

    Args:
        keys: The tokens of each sequence, as numbers that are equal where a token may be shared.
        width: About the most tokens of a row, without what its last sequence shares. Rows are of
            about equal size. A longer sequence is one row.
    """
    order = sorted(range(len(keys)), key=lambda index: keys[index].astype(">i8").tobytes())
    shared = [0, *(_common(keys[a], keys[b]) for a, b in pairwise(order))]
    new = sum(len(keys[index]) - count for index, count in zip(order, shared, strict=False))
    width = -(-new // max(1, -(-new // width)))
    rows: list[list[tuple[int, int]]] = []
    size = 0
    for index, count in zip(order, shared, strict=False):
        if not rows or size - count >= width:
            rows.append([])
            size, count = 0, 0
        rows[-1].append((index, count))
        size += len(keys[index]) - count
    return [RowPlan(tuple(row), tuple(len(keys[index]) for index, _ in row)) for row in rows]


def _common(one: Numbers, other: Numbers) -> int:
    """Return the number of first entries that are equal."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


def _row(sequences: Sequence[tuple[int, int]], lengths: Sequence[int], size: int) -> TreeRow:
    """Return the row of sequences, each given with the number of tokens shared with the last."""
    tokens, seen = np.zeros((size, 2), np.int64), np.zeros((size, size), np.bool_)
    paths: dict[int, Numbers] = {}
    path, used = np.zeros(0, np.int64), 0
    for (index, count), length in zip(sequences, lengths, strict=True):
        new = np.arange(used, used + length - count)
        tokens[new, 0], tokens[new, 1] = index, np.arange(count, length)
        path = path[:count]
        seen[new[:, None], path] = True
        used += len(new)
        seen[used - len(new) : used, used - len(new) : used] = np.tri(len(new), dtype=np.bool_)
        path = paths[index] = np.concatenate([path, new])
    return TreeRow(tokens, seen, paths)
