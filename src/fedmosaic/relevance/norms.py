"""Recognise the final norm of a language model by its output, and transpose its Jacobian.

Supported are RMSNorm as in Llama, Qwen2 and Mistral (``w x / rms``), RMSNorm as in Gemma
(``(1 + w) x / rms``), and LayerNorm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedmosaic.relevance.last_layer import NoClosedFormError
from fedmosaic.seeding import generator


@dataclass(frozen=True)
class FinalNorm:
    """Describe a final norm: ``n = scale * normalise(h) + bias``.

    ``normalise`` divides by the RMS, after centring if ``centred``.

    Attributes:
        scale: [d] fp32, the effective factor (for Gemma the sum ``1 + w``).
        bias: [d] fp32 or None.
        eps: Added to the mean square (or variance).
        centred: LayerNorm instead of RMSNorm.
    """

    scale: Tensor
    bias: Tensor | None
    eps: float
    centred: bool

    def to(self, device: torch.device) -> FinalNorm:
        """Return the same norm with its vectors on another device."""
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, scale=self.scale.to(device), bias=bias)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the norm's output in fp32, [..., d]."""
        mean, factor = self._mean_and_factor(hidden)
        out = (hidden.float() - mean) * factor * self.scale
        return out if self.bias is None else out + self.bias

    def _mean_and_factor(self, hidden: Tensor) -> tuple[Tensor | float, Tensor]:
        """Return the mean to subtract (0 in an RMSNorm) and the factor 1/rms, fp32 [..., 1]."""
        hidden = hidden.float()
        mean = hidden.mean(-1, keepdim=True) if self.centred else 0.0
        centred = hidden - mean if self.centred else hidden
        square = torch.linalg.vecdot(centred, centred).unsqueeze(-1)
        return mean, torch.rsqrt(square / hidden.shape[-1] + self.eps)

    def backward(
        self, hidden: Tensor, grad_rows: Tensor, rows: Tensor, inner: Tensor, total: Tensor | None
    ) -> Tensor:
        """Return rows of the loss gradient before the norm from the same rows after it.

        With x the normalised input, r = 1/rms, g the gradient after the norm and u = scale * g,

            dL/dh_j = r (u_j - x_j <u, x> / d)                 RMSNorm
            dL/dh_j = r (u_j - sum(u) / d - x_j <u, x> / d)    LayerNorm

        Besides the rows of g it needs only the two sums over all d.

        Args:
            hidden: [T, d] input of the norm.
            grad_rows: [T, k] rows of g.
            rows: [k] indices of these rows.
            inner: [T] <u, x>.
            total: [T] sum(u); None for RMSNorm.

        Returns:
            [T, k] in fp32.
        """
        mean, factor = self._mean_and_factor(hidden)
        width = hidden.shape[-1]
        normalised = (hidden[:, rows].float() - mean) * factor
        result = grad_rows * self.scale[rows]
        result -= normalised * (inner / width).unsqueeze(-1)
        if total is not None:
            result -= (total / width).unsqueeze(-1)
        return result.mul_(factor)


def recognise(norm: nn.Module, width: int) -> FinalNorm:
    """Describe a norm module of ``width`` features, confirmed on random inputs.

    Raises:
        NoClosedFormError: the module computes none of the supported norms.
    """
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    eps = next(
        (float(getattr(norm, name)) for name in ("variance_epsilon", "eps") if hasattr(norm, name)),
        None,
    )
    like = next(iter(norm.parameters()), torch.zeros(()))
    draw = generator("final norm probe")
    # Two scales, so that a wrong eps shows; an offset, so that centring shows.
    probe = torch.cat(
        [torch.randn(2, width, generator=draw) + 0.5, 1e-3 * torch.randn(2, width, generator=draw)]
    )
    probe = probe.to(device=like.device, dtype=like.dtype)
    if eps is not None:
        base = torch.ones(width, device=like.device) if weight is None else weight.detach().float()
        shift = None if bias is None else bias.detach().float()
        with torch.no_grad():
            output = norm(probe).float()
        tolerance = 1e-4 if like.dtype == torch.float32 else 3e-2
        for scale, centred in ((base, False), (base + 1, False), (base, True)):
            candidate = FinalNorm(scale, shift, eps, centred)
            expected = candidate(probe)
            if (output - expected).norm() <= tolerance * expected.norm().clamp_min(1e-12):
                return candidate
    raise NoClosedFormError(
        f"its final norm ({type(norm).__name__}) is no RMSNorm of the Llama, Qwen2, Mistral or "
        "Gemma form and no LayerNorm"
    )
