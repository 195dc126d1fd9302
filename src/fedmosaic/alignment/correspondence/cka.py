"""Accumulate linear CKA between all layers of two models, batch by batch.

For centred features X [n, d₁] and Y [n, d₂] of the same n tokens,

    CKA(X, Y) = ‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F)

Source: Kornblith et al. 2019 (arXiv 1905.00414), eq. 3 and section 3. FedMosaic (arXiv 2506.11024)
uses it to show that layers of equal relative depth are the most similar. Only the moments XᵀX, YᵀY,
XᵀY and the means are stored, in float64: memory does not grow with the number of samples, and their
order does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.errors import DataError

Bases = tuple[Sequence[Tensor], Sequence[Tensor]]
"""For each of the two models one basis [width, k] for each layer."""


class StreamedCka:
    """Accumulate the CKA between all layers of two models, batch by batch.

    Args:
        layers: number of layers of each model.
        widths: hidden size of each model.
        bases: for each model one matrix [width, k] of orthonormal columns for each layer; only
            these directions are compared (see :func:`principal_bases`). None compares all
            directions, and the result is exact.

    Attributes:
        tokens: number of tokens so far.
    """

    def __init__(
        self, layers: tuple[int, int], widths: tuple[int, int], bases: Bases | None = None
    ) -> None:
        self.sides = [
            _ModelMoments(count, width, None if bases is None else bases[side])
            for side, (count, width) in enumerate(zip(layers, widths, strict=True))
        ]
        self.cross = torch.zeros(
            *(side.count * side.width for side in self.sides), dtype=torch.float64
        )
        self.tokens = 0

    def update(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Add n tokens: one tensor [n, width] for each layer of each model.

        Row t of the first model corresponds to row t of the second.
        """
        one, two = (
            side.update(states) for side, states in zip(self.sides, (first, second), strict=True)
        )
        self.cross.addmm_(one.t(), two)
        self.tokens += len(one)

    def matrix(self) -> Tensor:
        """Return the CKA of all pairs of layers.

        Returns:
            float64 [layers of the first, layers of the second], between 0 and 1; 0 for a layer
            whose outputs are constant.

        Raises:
            DataError: fewer than two tokens were added.
        """
        if self.tokens < 2:
            raise DataError(f"CKA needs at least two tokens, but it got {self.tokens}")
        one, two = self.sides
        cross = self.cross - torch.outer(one.total, two.total) / self.tokens
        blocks = cross.view(one.count, one.width, two.count, two.width)
        shared = blocks.square().sum(dim=(1, 3))
        own = torch.outer(
            *(side.centred(self.tokens).square().sum(dim=(1, 2)).sqrt() for side in self.sides)
        )
        return torch.where(own > 0, shared / own.clamp_min(1e-300), 0.0).clamp(0.0, 1.0)

    def captured(self) -> float:
        """Return the share of variance inside the bases, in the layer where it is smallest.

        It is 1 without bases.
        """
        return min(side.captured(self.tokens) for side in self.sides)


class _ModelMoments:
    """Accumulate sums and second moments of each layer of one model, in the basis of the layer."""

    def __init__(self, count: int, width: int, bases: Sequence[Tensor] | None) -> None:
        self.count = count
        self.bases = None if bases is None else [basis.to(torch.float64) for basis in bases]
        self.width = width if self.bases is None else self.bases[0].shape[1]
        self.total = torch.zeros(count * self.width, dtype=torch.float64)
        self.moments = torch.zeros(count, self.width, self.width, dtype=torch.float64)
        self.full_total = torch.zeros(count, width, dtype=torch.float64)
        self.full_squares = torch.zeros(count, dtype=torch.float64)

    def update(self, states: Sequence[Tensor]) -> Tensor:
        """Add one tensor [n, d] for each layer.

        Returns:
            their coordinates in the bases, side by side: float64 [n, layers x width].
        """
        rows = []
        for index, state in enumerate(states):
            wide = state.to("cpu", torch.float64)
            self.full_total[index] += wide.sum(0)
            self.full_squares[index] += wide.square().sum()
            rows.append(wide if self.bases is None else wide @ self.bases[index])
            self.moments[index].addmm_(rows[-1].t(), rows[-1])
        joined = torch.cat(rows, dim=1)
        self.total += joined.sum(0)
        return joined

    def centred(self, tokens: int) -> Tensor:
        """Return the centred XᵀX of each layer, [layers, width, width]."""
        total = self.total.view(self.count, self.width)
        return self.moments - total[:, :, None] * total[:, None, :] / tokens

    def captured(self, tokens: int) -> float:
        """Return the smallest share of a layer's variance that lies inside its basis."""
        held = self.centred(tokens).diagonal(dim1=1, dim2=2).sum(1)
        full = self.full_squares - self.full_total.square().sum(1) / tokens
        return float((held / full.clamp_min(1e-300)).clamp(0.0, 1.0).min())


def principal_bases(states: Sequence[Tensor], k: int) -> list[Tensor]:
    """Compute the k principal directions of each layer's sample.

    CKA weights directions by their squared variance, so the strongest hundred hold nearly all of
    it. A random projection to as many dimensions has errors of several hundredths.

    Args:
        states: one sample [n, d] for each layer.
        k: number of directions.

    Returns:
        float64 [d, k] of orthonormal columns for each layer.

    Raises:
        DataError: fewer than k + 1 tokens.
    """
    bases = []
    for state in states:
        wide = state.to("cpu", torch.float64)
        if len(wide) <= k:
            raise DataError(
                f"{len(wide)} tokens are too few to find {k} directions; use more public examples"
            )
        wide = wide - wide.mean(0)
        # The smaller of the two Gram matrices has the same non-zero eigenvalues.
        if len(wide) < wide.shape[1]:
            vectors = wide.t() @ torch.linalg.eigh(wide @ wide.t())[1][:, -k:]
            bases.append(torch.linalg.qr(vectors.flip(1))[0])
        else:
            bases.append(torch.linalg.eigh(wide.t() @ wide)[1][:, -k:].flip(1))
    return bases
