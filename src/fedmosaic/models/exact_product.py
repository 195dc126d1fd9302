"""Multiply with frozen float32 weights through oneDNN, with the very bits of torch's product.

:mod:`fedmosaic.models.packed` says where oneDNN is faster. Its sums differ from MKL's only by where
a long row is cut: MKL adds up pieces of 192 entries, and of half a row below 384. With the same
cuts both give the same bits. Whether they do on this machine is checked for every shape before it
is used, so that training through oneDNN never changes a number.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from fedmosaic.models.packed import pays

PIECE = 192
FEWEST_ROWS = 4
LEAST_WORK = 3 << 20
"""Multiplications of a piece below which it saves less time than it takes to call oneDNN."""
_CHECKED_ROWS = (4, 23, 256)


class ExactProduct:
    """Compute ``x W^T + b`` for a weight that does not change, as torch does to the last bit.

    It keeps a copy of the weight in oneDNN's layout. Make it by :meth:`of`.

    Args:
        weight: W, ``[d_out, d_in]``, float32.
        bias: b, ``[d_out]``, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._plain, self._bias = weight, bias
        self._cuts = _cuts(weight.shape[1])
        # MKL has other sums for a few rows.
        self._fewest = max(FEWEST_ROWS, LEAST_WORK * len(self._cuts) // weight.numel())
        self._pieces = [
            torch.ops.mkldnn._reorder_linear_weight(weight[:, start:end].contiguous())
            for start, end in self._cuts
        ]

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> ExactProduct | None:
        """Return the product; None where it is not faster or has other bits than torch's."""
        weight = weight.detach()
        if not pays(weight) or not _equals_torch(*weight.shape, bias is not None):
            return None
        return cls(weight, None if bias is None else bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``[n, d_out]`` for x ``[n, d_in]``; it has no gradient."""
        if x.shape[0] < self._fewest:
            return _torch(x, self._plain, self._bias)
        return self.by_pieces(x)

    def by_pieces(self, x: Tensor) -> Tensor:
        """Return the product through oneDNN, however small it is."""
        product: Tensor | None = None
        for (start, end), piece in zip(self._cuts, self._pieces, strict=True):
            part = x if len(self._cuts) == 1 else x[:, start:end]
            product = (
                torch.ops.mkldnn._linear_pointwise(part, piece, self._bias, "none", [], "")
                if product is None
                else torch.ops.mkldnn._linear_pointwise.binary(part, product, piece, None, "add")
            )
        assert product is not None
        return product


def _torch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())


def _cuts(length: int) -> list[tuple[int, int]]:
    """Return where MKL cuts a row of that length."""
    if PIECE < length < 2 * PIECE:
        return [(0, length // 2), (length // 2, length)]
    return list(pairwise([*range(0, length, PIECE), length]))


@cache
def _equals_torch(d_out: int, d_in: int, has_bias: bool) -> bool:
    """Return whether the product of that shape has torch's bits, tried on random numbers."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(d_out, d_in, generator=draw)
    bias = torch.randn(d_out, generator=draw) if has_bias else None
    product = ExactProduct(weight, bias)
    tried = (torch.randn(rows, d_in, generator=draw) for rows in _CHECKED_ROWS)
    return all(torch.equal(product.by_pieces(x), _torch(x, weight, bias)) for x in tried)
