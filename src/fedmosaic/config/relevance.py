"""Define how relevant clients are to each other (RELA)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedmosaic.config.base import Settings


class RelevanceSettings(Settings):
    """Set RELA's signatures and weights (paper: m 10, α 0.5, τ 0.5, ratio 0.4, noise 1e-4)."""

    kind: Literal["rela", "uniform", "permuted", "random", "oracle"] = "rela"
    """RELA's weights, or a control that replaces them.

    ``rela``: from the similarity of signatures. ``uniform``: equal weights. ``permuted``: RELA's
    weights assigned to the wrong peers (other clients). ``random``: equal weights for ``sources``
    random peers, drawn anew each round. ``oracle``: weights proportional to the number of tasks of
    common families.
    """

    sources: int = Field(default=2, ge=1)
    """Number of random peers; used with ``kind: random`` only."""

    model: str = "smallest"
    """Model that computes signatures, the same for all clients.

    ``smallest``: the model with the fewest parameters, of those in the federation that can give a
    signature for every client: where a client trains on images, a vision-language model. Otherwise
    the name of a model, which need not be a client's.
    """

    every: int = Field(default=10, ge=1)
    """m: a signature is computed on every m-th training batch."""

    ema: float = Field(default=0.5, gt=0, le=1)
    """α: weight of the newest signature in the moving average."""

    keep: float = Field(default=0.4, gt=0, le=1)
    """Share of the signature's rows that are computed and leave the client.

    The same rows, drawn once, at all clients. In the ablations, 5 % and 100 % gave the same
    accuracy as 40 %.
    """

    noise: Literal["gaussian", "none"] = "gaussian"
    """Distribution of the noise that is added to a signature before it leaves the client."""

    noise_std: float = Field(default=1e-4, ge=0)
    """Standard deviation of the noise in each coordinate, in units of ``clip`` if that is set.

    1e-4 without ``clip`` is the paper's noise. Without ``clip`` no noise gives a privacy guarantee.
    """

    clip: float | None = Field(default=None, gt=0)
    """L2 norm to which longer signatures are scaled down. None: no limit."""

    delta: float = Field(default=1e-5, gt=0, le=1e-3)
    """δ of the (ε, δ) guarantee that ``clip`` and ``noise_std`` give for signatures.

    It changes the printed ε only. Take much less than one divided by the number of clients.
    """

    tau: float = Field(default=0.5, gt=0)
    """τ: temperature of the softmax over similarities, w_ij ∝ exp(S_ij / τ).

    Small: few peers count. Large: all peers count alike. 0.5 is nearly equal weights: in the
    ablations, a client's own group got 36 % of the weight (equal weights: 27 %, τ = 0.1: 68 %).
    """

    relative_tau: float | None = Field(default=None, gt=0)
    """Temperature in standard deviations of the similarities between different clients.

    Replaces ``tau`` by ``relative_tau`` · std(S_ij, i ≠ j), computed anew each round. None: ``tau``
    is used. Start with 0.5, the value of ``fedmosaic-relative-temperature``. Not in the paper.
    """

    top_k: int | None = Field(default=None, ge=1)
    """Number of most similar peers with a weight. None: all."""

    candidates: int | None = Field(default=None, ge=0)
    """Peers per client that are compared exactly, of more than ``server.dense_clients`` clients.

    They are proposed by sketches of the signatures; used with ``top_k`` only. None: four times
    ``top_k``, at least 64. 0: all pairs of clients are compared, as also with ``relative_tau``.
    """
