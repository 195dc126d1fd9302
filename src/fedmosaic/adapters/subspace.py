"""Make the frozen A and B of Co-LoRA: random orthonormal, or from the base weight's SVD."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedmosaic.errors import ModelError
from fedmosaic.seeding import generator


def random_pair(
    d_in: int, d_out: int, r: int, seed: int, layer: int, module: str
) -> tuple[Tensor, Tensor]:
    """Draw A with orthonormal rows and B with orthonormal columns for (seed, layer, module).

    Orthonormal A and B let P reach r^2 dimensions of updates, the maximum (FedMosaic, Theorem 1).
    Where r exceeds a width, the long side is orthonormal instead.

    Returns:
        A ``[r, d_in]`` and B ``[d_out, r]``, float64.
    """
    a = torch.empty(r, d_in, dtype=torch.float64)
    b = torch.empty(d_out, r, dtype=torch.float64)
    nn.init.orthogonal_(a, generator=generator(seed, "A", layer, module))
    nn.init.orthogonal_(b, generator=generator(seed, "B", layer, module))
    return a, b


def svd_pair(weight: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Return the r leading right and left singular vectors of a weight, with unique signs.

    Args:
        weight: The base weight, ``[d_out, d_in]``.
        r: Rank.

    Returns:
        A ``[r, d_in]`` and B ``[d_out, r]``, float64.

    Raises:
        ModelError: r exceeds the smaller width of the weight.
    """
    d_out, d_in = weight.shape
    if r > min(d_out, d_in):
        raise ModelError(
            f"shared_init='svd' finds at most {min(d_out, d_in)} directions in a weight of {d_out} "
            f"x {d_in}, but r is {r}: lower r or use shared_init='random'."
        )
    u, _, vh = torch.linalg.svd(weight.detach().to("cpu", torch.float64), full_matrices=False)
    a, b = vh[:r], u[:, :r]
    # A singular pair is defined up to its sign; fix it so that two machines agree on what P means.
    sign = torch.sign(a.gather(1, a.abs().argmax(1, keepdim=True)))
    return (a * sign).contiguous(), (b * sign.t()).contiguous()
