"""Clip signatures, add noise to them, and account for the differential privacy this gives.

Noise without clipping (the paper's standard deviation of 1e-4) hides details but guarantees
nothing: epsilon is infinite then.
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
class PrivacyMechanism:
    """Clip a signature and add noise, before it leaves the client.

    Args:
        noise: Distribution of the noise, "gaussian", "laplace" or "none".
        std: Standard deviation of the noise in every coordinate. With ``clip`` it is in units of
            ``clip`` (the noise multiplier sigma), otherwise absolute.
        clip: L2 norm C to which longer signatures are shortened; None leaves them.
    """

    noise: Noise = "gaussian"
    std: float = 1e-4
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.noise not in ("none", "gaussian", "laplace"):
            raise ConfigError(
                f"relevance.noise is {self.noise!r}; it must be none, gaussian or laplace"
            )
        if not (self.std >= 0 and math.isfinite(self.std)):
            raise ConfigError(f"relevance.noise_std is {self.std}; it must be a number >= 0")
        if self.clip is not None and not (self.clip > 0 and math.isfinite(self.clip)):
            raise ConfigError(f"relevance.clip is {self.clip}; it must be a norm > 0")

    def __call__(self, signature: Tensor, generator: torch.Generator) -> Tensor:
        """Return a clipped and noisy copy of a signature.

        Args:
            signature: [k], any device.
            generator: Draws the noise; on the CPU, so that every device gets the same noise.
        """
        result = signature.clone() if self.clip is None else clip(signature, self.clip)
        if self.noise == "none":
            return result
        std = self.std * (1.0 if self.clip is None else self.clip)
        draw = gaussian_noise if self.noise == "gaussian" else laplace_noise
        return result.add_(draw(signature.shape, std, generator).to(result))

    def epsilon(self, releases: int, delta: float = 1e-5) -> float:
        """Return the epsilon that ``releases`` signatures of one client spend at ``delta``.

        It is infinite where nothing is guaranteed. Laplace noise guarantees nothing here, because
        it would need a clipped L1 norm.
        """
        if self.noise != "gaussian" or self.clip is None:
            return math.inf
        return gaussian_epsilon(self.std, releases, delta)


def clip(signature: Tensor, norm: float) -> Tensor:
    """Return a copy, scaled down to L2 norm ``norm`` if it is longer."""
    length = torch.linalg.vector_norm(signature)
    scale: Tensor = norm / length.clamp_min(norm)
    return signature * scale


def gaussian_noise(shape: torch.Size, std: float, generator: torch.Generator) -> Tensor:
    """Draw independent normal noise of standard deviation ``std``, fp32."""
    return torch.randn(shape, generator=generator).mul_(std)


def laplace_noise(shape: torch.Size, std: float, generator: torch.Generator) -> Tensor:
    """Draw independent Laplace noise of standard deviation ``std``, fp32.

    Its scale is std / sqrt 2. It is drawn as an exponential with a random sign.
    """
    size = torch.empty(shape).exponential_(generator=generator)
    sign = torch.randint(0, 2, shape, generator=generator).mul_(2).sub_(1)
    return size.mul_(sign).mul_(std / math.sqrt(2.0))


def gaussian_epsilon(
    sigma: float, releases: int, delta: float = 1e-5, sensitivity: float = 2.0
) -> float:
    """Bound the epsilon of Gaussian releases with noise ``sigma * C`` of vectors clipped to norm C.

    Renyi differential privacy composes by addition: at order a each release costs
    a s^2 / (2 sigma^2) (Mironov 2017, arXiv 1702.07476, proposition 7). With
    rho = releases * s^2 / (2 sigma^2), the conversion eps = a rho + log(1/delta) / (a - 1)
    (proposition 3) is least at a = 1 + sqrt(log(1/delta) / rho), which gives

        eps = rho + 2 sqrt(rho log(1/delta)).

    The bound also holds for releases that depend on earlier ones. :func:`gaussian_delta` is exact.

    Args:
        sigma: Noise multiplier; 0 gives infinity.
        releases: Number of signatures that left the client; 0 gives 0.
        delta: In (0, 1).
        sensitivity: s, the largest change of a clipped vector in units of C. The default 2 protects
            against exchanging the client's whole data for any other; 1 protects only against
            replacing them by a zero signature.

    Raises:
        ConfigError: an argument is out of range.
    """
    if not 0 < delta < 1:
        raise ConfigError(f"delta is {delta}; it must lie in (0, 1)")
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
    """Return the exact delta at ``epsilon`` (Balle and Wang 2018, arXiv 1805.06530, theorem 8).

        delta = Phi(m/2 - eps/m) - e^eps Phi(-m/2 - eps/m),    m = s sqrt(releases) / sigma

    Gaussian releases compose to one with sqrt(releases) times the sensitivity (Dong, Roth and Su
    2019, arXiv 1905.02383, section 3). The arguments are those of :func:`gaussian_epsilon`.
    """
    m = sensitivity * math.sqrt(releases) / sigma
    below = _log_phi(-m / 2 - epsilon / m) + epsilon
    return max(0.0, math.exp(_log_phi(m / 2 - epsilon / m)) - math.exp(min(below, 0.0)))


def _log_phi(x: float) -> float:
    """Return the log of the standard normal distribution function, accurate in the lower tail."""
    return float(torch.special.log_ndtr(torch.tensor(x, dtype=torch.float64)))
