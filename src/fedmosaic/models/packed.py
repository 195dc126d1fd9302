"""Multiply with frozen float32 weights through oneDNN, on processors where that is faster.

PyTorch multiplies float32 matrices with MKL, which uses no AVX-512 on AMD processors. oneDNN does:
there its product takes about half the time, once the weight is in oneDNN's own layout. The sums
differ in their last bits. The choice depends on the processor alone, never on a measurement, so a
machine always gives the same numbers.
"""

from __future__ import annotations

import platform
from copy import copy
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear

CPU_INFO = Path("/proc/cpuinfo")
HAS_OPS = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(
    torch.ops.mkldnn, "_reorder_linear_weight"
)


class FrozenProduct:
    """Compute ``x W^T + b`` for a weight that does not change, in oneDNN's layout where that pays.

    The weight is copied where it is packed, and used as it is elsewhere. Products have no gradient:
    call it without gradients, or inside an autograd function that has its own.

    Args:
        weight: W, ``[d_out, d_in]``.
        bias: b, ``[d_out]``, or None.

    Attributes:
        packed: Whether the weight is in oneDNN's layout.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.packed = pays(weight)
        self._bias = bias.detach() if bias is not None else None
        self._weight = weight.detach()
        if self.packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight)

    def with_bias(self, bias: Tensor | None) -> FrozenProduct:
        """Return the product with the same weight and another bias."""
        other = copy(self)
        other._bias = bias.detach() if bias is not None else None
        return other

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """Return ``[..., d_out]`` for x ``[..., d_in]`` of the weight's dtype.

        Args:
            x: The input.
            plus: Added to the output, ``[..., d_out]``.
        """
        if not self.packed:
            plain = linear(x, self._weight, self._bias)
            return plain if plus is None else plain.add_(plus)
        if plus is not None:
            sums: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
                x, plus, self._weight, self._bias, "add"
            )
            return sums
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "none", [], ""
        )
        return product


def pays(weight: Tensor) -> bool:
    """Return whether products with a weight are faster in oneDNN than in torch.

    They are for float32 in full precision on an AMD processor with AVX-512.
    """
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and HAS_OPS
        and _suitable_processor()
        and bool(torch.backends.mkldnn.enabled)  # type: ignore[attr-defined]
        and torch.get_float32_matmul_precision() == "highest"
    )


@cache
def _suitable_processor() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in _vendor()
    )


def _vendor() -> str:
    """Return the vendor of the processor as it names itself; empty where it is not known."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("vendor_id")), "")
