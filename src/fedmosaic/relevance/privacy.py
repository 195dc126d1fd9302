"""Clip what a client publishes, add noise to it, and say what differential privacy this gives.

Signatures and prototypes of prompts are published so. What is protected is a client's whole data:
two worlds are compared in which one client has any other data, and everything else is the same. A
signature clipped to L2 norm C then changes by at most 2 C, whatever was averaged before it was
clipped. The moving average of gradients over steps and rounds needs no account of its own, since it
happens before the clipping. The same holds for k prototypes, stacked to one vector.

Noise without clipping (the paper's standard deviation of 1e-4) hides details but guarantees
nothing, because nothing limits how far a signature can move.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedmosaic.errors import ConfigError

Noise = Literal["none", "gaussian"]
Draw = Callable[[Tensor], Tensor]

# The largest distance of two vectors in the ball of radius 1. Distance 1 would protect less: only
# against replacing the client's data by a signature of zeros.
SENSITIVITY = 2.0
INSTALL = "pip install 'fedmosaic[privacy]'"


@dataclass(frozen=True)
class PrivacyMechanism:
    """Clip a signature or prototypes and add noise, before they leave the client.

    Args:
        noise: Distribution of the noise, "gaussian" or "none".
        std: Standard deviation of the noise in every coordinate. With ``clip`` it is in units of
            ``clip`` (the noise multiplier sigma), otherwise absolute.
        clip: L2 norm C to which longer signatures are shortened; None leaves them.
    """

    noise: Noise = "gaussian"
    std: float = 1e-4
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.noise not in ("none", "gaussian"):
            raise ConfigError(f"relevance.noise is {self.noise!r}; it must be none or gaussian")
        if not (self.std >= 0 and math.isfinite(self.std)):
            raise ConfigError(f"relevance.noise_std is {self.std}; it must be a number >= 0")
        if self.clip is not None and not (self.clip > 0 and math.isfinite(self.clip)):
            raise ConfigError(f"relevance.clip is {self.clip}; it must be a norm > 0")

    def __call__(self, signature: Tensor, draw: Draw) -> Tensor:
        """Return a clipped and noisy copy of a signature.

        Args:
            signature: [k], or prototypes [k, f], any device. The norm is that of all values.
            draw: Returns standard normal numbers, fp32 on the CPU, in the shape of the clipped
                signature that it is given.
        """
        result = signature.clone() if self.clip is None else clip(signature, self.clip)
        if self.noise == "none":
            return result
        std = self.std * (1.0 if self.clip is None else self.clip)
        return result.add_(draw(result).mul_(std).to(result))

    @property
    def guarantees(self) -> bool:
        """Return whether clip and noise give any finite epsilon."""
        return self.noise == "gaussian" and self.clip is not None and self.std > 0


def clip(signature: Tensor, norm: float) -> Tensor:
    """Return a copy, scaled down to L2 norm ``norm`` if it is longer.

    A signature whose norm is not finite becomes zeros: as NaN it would carry no noise.
    """
    length = torch.linalg.vector_norm(signature)
    if not torch.isfinite(length):
        return torch.zeros_like(signature)
    scale: Tensor = norm / length.clamp_min(norm)
    return signature * scale


def seeded_noise(generator: torch.Generator) -> Draw:
    """Return a draw from a generator, for simulations: who knows the seed can remove the noise."""
    return lambda signature: torch.randn(signature.shape, generator=generator)


def secret_noise(secret: bytes, *purpose: int | str) -> Draw:
    """Return a draw that only the owner of a secret can repeat.

    The numbers come from SHAKE-256 of the secret, the purpose and the clipped signature. So a
    request that is answered a second time gets equal bytes, which tell nothing new. A server that
    asks for the same round with other downloads gets other noise, which it cannot subtract.

    Args:
        secret: at least 32 random bytes that never leave the client.
        purpose: names the draw, such as client and round.

    Raises:
        ConfigError: the secret is too short.
    """
    if len(secret) < 32:
        raise ConfigError(f"a secret for noise has {len(secret)} bytes; it needs at least 32")

    def draw(signature: Tensor) -> Tensor:
        content = signature.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
        name = "\x1f".join(f"{type(part).__name__}:{part}" for part in purpose).encode()
        parts = (hashlib.sha3_256(part).digest() for part in (secret, name, content))
        stream = hashlib.shake_256(b"".join(parts)).digest(8 * signature.numel())
        whole = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)  # 53 bits: exact in float64
        uniform = torch.from_numpy((whole.astype(np.float64) + 0.5) * 2.0**-53)
        normal: Tensor = torch.special.ndtri(uniform)
        return normal.float().reshape(signature.shape)

    return draw


def can_account() -> bool:
    """Return whether the package that computes epsilon is installed."""
    return importlib.util.find_spec("dp_accounting") is not None


def signature_epsilon(sigma: float, releases: int, delta: float) -> float:
    """Return the epsilon of Gaussian releases at one noise; see :func:`gaussian_epsilon`.

    Args:
        sigma: Noise multiplier, > 0.
        releases: Number of signatures that left the client; 0 gives 0.
        delta: In (0, 1).

    Raises:
        ConfigError: an argument is out of range, or the package is not installed.
    """
    return gaussian_epsilon([(sigma, releases)], delta)


def gaussian_epsilon(releases: Iterable[tuple[float, int]], delta: float) -> float:
    """Return the epsilon of all Gaussian releases of a client together, by dp-accounting.

    Each release is a vector clipped to norm C with noise of standard deviation σ C. C and σ may
    differ between kinds of releases. A release may depend on everything before it. With n_i
    releases at σ_i, all of them together are one with the noise multiplier

        σ = 1 / sqrt(Σ_i n_i / σ_i²)

    (Dong, Roth and Su 2019, arXiv 1905.02383, section 3), for which the accountant is exact (Balle
    and Wang 2018, arXiv 1805.06530).

    Args:
        releases: Noise multiplier σ, > 0, and number n of each kind of release.
        delta: In (0, 1).

    Raises:
        ConfigError: an argument is out of range, or the package is not installed.
    """
    spent = 0.0
    for sigma, number in releases:
        if not (sigma > 0 and number >= 0 and 0 < delta < 1):
            raise ConfigError(
                f"sigma = {sigma}, releases = {number}, delta = {delta}: sigma must be > 0, "
                "releases >= 0 and delta between 0 and 1"
            )
        spent += number / sigma**2
    if not can_account():
        raise ConfigError(f"computing epsilon needs the package dp-accounting: {INSTALL}")
    if spent == 0:
        return 0.0
    from dp_accounting import get_epsilon_gaussian  # imports SciPy

    with np.errstate(divide="ignore"):  # in its search for an upper bound
        return float(get_epsilon_gaussian(1 / (SENSITIVITY * math.sqrt(spent)), delta))
