"""What happens to a signature before it leaves the client: clipping, noise, and an honest account of the privacy.

Noise without clipping (the paper's std 1e-4) hides details but guarantees nothing: epsilon is infinite then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedmosaic.errors import ConfigError

Noise = Literal["none", "gaussian", "laplace"]


@dataclass(frozen=True)
class Sanitiser:
    """Clips a signature and adds noise.

    Args:
        noise: the distribution of the noise, "gaussian", "laplace" or "none".
        std: its standard deviation in every coordinate. With ``clip`` it is in units of ``clip`` (the noise multiplier
            sigma), otherwise absolute.
        clip: L2 norm C to which longer signatures are shortened; None leaves them.
    """

    noise: Noise = "gaussian"
    std: float = 1e-4
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.noise not in ("none", "gaussian", "laplace"):
            raise ConfigError(
                f"signature noise must be none, gaussian or laplace, got {self.noise!r}"
            )
        if not (self.std >= 0 and math.isfinite(self.std)):
            raise ConfigError(f"signature noise: std must be a number >= 0, got {self.std}")
        if self.clip is not None and not (self.clip > 0 and math.isfinite(self.clip)):
            raise ConfigError(f"signature clip must be a norm > 0, got {self.clip}")

    def __call__(self, signature: Tensor, generator: torch.Generator) -> Tensor:
        """A sanitised copy; ``generator`` (on the CPU, so that every device draws alike) gives the noise."""
        result = signature.clone() if self.clip is None else clip(signature, self.clip)
        if self.noise == "none":
            return result
        std = self.std * (1.0 if self.clip is None else self.clip)
        draw = gaussian_noise if self.noise == "gaussian" else laplace_noise
        return result.add_(draw(signature.shape, std, generator).to(result))

    def epsilon(self, releases: int, delta: float = 1e-5) -> float:
        """The epsilon that ``releases`` signatures of one client spend at ``delta``; infinite where none is guaranteed.

        Laplace noise counts as no guarantee: it would need a clipped L1 norm.
        """
        if self.noise != "gaussian" or self.clip is None:
            return math.inf
        return gaussian_epsilon(self.std, releases, delta)


def clip(signature: Tensor, norm: float) -> Tensor:
    """A copy, scaled down to L2 norm ``norm`` if it is longer."""
    length = torch.linalg.vector_norm(signature)
    scale: Tensor = norm / length.clamp_min(norm)
    return signature * scale


def gaussian_noise(shape: torch.Size, std: float, generator: torch.Generator) -> Tensor:
    """Independent normal draws of standard deviation ``std``, fp32."""
    return torch.randn(shape, generator=generator).mul_(std)


def laplace_noise(shape: torch.Size, std: float, generator: torch.Generator) -> Tensor:
    """Independent Laplace draws of standard deviation ``std`` (scale std / sqrt 2), fp32: a signed exponential."""
    size = torch.empty(shape).exponential_(generator=generator)
    sign = torch.randint(0, 2, shape, generator=generator).mul_(2).sub_(1)
    return size.mul_(sign).mul_(std / math.sqrt(2.0))


def gaussian_epsilon(
    sigma: float, releases: int, delta: float = 1e-5, sensitivity: float = 2.0
) -> float:
    """Epsilon of ``releases`` Gaussian releases with noise ``sigma * C`` of vectors clipped to norm C.

    Renyi differential privacy composes by addition: at order a each release costs a s^2 / (2 sigma^2)
    (Mironov 2017, arXiv 1702.07476, proposition 7). With rho = releases * s^2 / (2 sigma^2), the conversion
    eps = a rho + log(1/delta) / (a - 1) (proposition 3) is least at a = 1 + sqrt(log(1/delta) / rho), which gives

        eps = rho + 2 sqrt(rho log(1/delta)).

    The bound holds for releases that depend on earlier ones. It is an upper bound; :func:`gaussian_delta` is exact.

    Args:
        sigma: noise multiplier; 0 gives infinity.
        releases: how many signatures left the client; 0 gives 0.
        delta: in (0, 1).
        sensitivity: s, the largest change of a clipped vector in units of C. The default 2 protects the client's whole
            data against being exchanged for any other; 1 protects only against being replaced by a zero signature.
    """
    if not 0 < delta < 1:
        raise ConfigError(f"delta must lie in (0, 1), got {delta}")
    if sigma < 0 or releases < 0 or sensitivity < 0:
        raise ConfigError("sigma, releases and sensitivity must not be negative")
    if releases == 0 or sensitivity == 0:
        return 0.0
    if sigma == 0:
        return math.inf
    rho = releases * sensitivity**2 / (2 * sigma**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def gaussian_delta(
    epsilon: float, sigma: float, releases: int = 1, sensitivity: float = 2.0
) -> float:
    """The exact delta at ``epsilon`` (Balle and Wang 2018, arXiv 1805.06530, theorem 8).

    delta = Phi(m/2 - eps/m) - e^eps Phi(-m/2 - eps/m) with m = s sqrt(releases) / sigma, because Gaussian releases
    compose to one with sqrt(releases) times the sensitivity (Dong, Roth and Su 2019, arXiv 1905.02383, section 3).
    """
    m = sensitivity * math.sqrt(releases) / sigma
    below = _log_phi(-m / 2 - epsilon / m) + epsilon
    return max(0.0, math.exp(_log_phi(m / 2 - epsilon / m)) - math.exp(min(below, 0.0)))


def _log_phi(x: float) -> float:
    """log of the standard normal distribution function, accurate far in the lower tail."""
    return float(torch.special.log_ndtr(torch.tensor(x, dtype=torch.float64)))
