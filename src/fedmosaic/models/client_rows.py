"""Describe a batch that holds the examples of several clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClientRows:
    """Describe whose the tokens of a batch are; they are grouped by client.

    Attributes:
        sizes: number of each client's tokens in the batch, padding included.
        lead: first dimension of the batch.
        own: rows and columns of the batch that each client would have by itself.
        places: for each client, which of its tokens in this batch are which ones of its own batch,
            two tensors of equal lengths, counted row by row.
        draws: for each client, the generator of what its adapters drop in training.
    """

    sizes: tuple[int, ...]
    lead: int
    own: Sequence[tuple[int, int]]
    places: Sequence[tuple[Tensor, Tensor]]
    draws: Sequence[torch.Generator]

    @classmethod
    def padded(
        cls,
        rows: int,
        columns: int,
        own: Sequence[tuple[int, int]],
        draws: Sequence[torch.Generator],
    ) -> ClientRows:
        """Describe a batch with equally many rows of each client, padded on the left.

        Args:
            rows: rows of each client.
            columns: tokens of each row.
            own: as the attribute; a client's own rows are the first ones.
            draws: as the attribute.
        """
        tokens = torch.arange(rows * columns).view(rows, columns)
        places = [
            (tokens[:first, columns - width :].flatten(), torch.arange(first * width))
            for first, width in own
        ]
        return cls((rows * columns,) * len(own), rows * len(own), own, places, draws)

    @classmethod
    def unpadded(
        cls, lengths: Sequence[Sequence[int]], draws: Sequence[torch.Generator]
    ) -> ClientRows:
        """Describe a batch of one row that holds all clients' examples without padding.

        Args:
            lengths: for each client, the tokens of each of its examples.
            draws: as the attribute.
        """
        own = [(len(some), max(some)) for some in lengths]
        places = []
        for some, (rows, columns) in zip(lengths, own, strict=True):
            first = columns - torch.tensor(some)
            real = torch.arange(columns).expand(rows, columns) >= first[:, None]
            places.append((torch.arange(sum(some)), real.flatten().nonzero()[:, 0]))
        return cls(tuple(sum(some) for some in lengths), 1, own, places, draws)

    @cached_property
    def tokens(self) -> int:
        """Return the number of all clients' tokens."""
        return sum(self.sizes)

    @cached_property
    def is_even(self) -> bool:
        """Return whether all clients have as many tokens."""
        return len(set(self.sizes)) == 1

    def dropout(self, x: Tensor, share: float) -> Tensor:
        """Return [tokens, d] with the units dropped that each client drops by itself."""
        keep = torch.zeros_like(x)
        parts = zip(keep.split(self.sizes), self.own, self.places, self.draws, strict=True)
        for part, (rows, columns), (found, own), draw in parts:
            mask = x.new_empty(rows * columns, x.shape[-1])
            mask.bernoulli_(1 - share, generator=draw).div_(1 - share)
            part[found] = mask[own]
        return x * keep
