"""Turn signatures into similarities, weights and mixtures: RELA (arXiv 2506.11024, section 4.1).

    S_ij = cos(g_i, g_j)      w_ij = softmax_j(S_ij / tau), j != i      G_i = sum_j w_ij L_j

This is two matrix products on the server: S = N N^T on normalised signatures, and G = W L on the
clients' values. A row of W belongs to the client that receives, a column to the client that sends.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from fedmosaic.errors import ConfigError, UpdateError

# Bytes of signatures that are worked on at a time.
CACHE = 1 << 22


def similarity(signatures: Tensor) -> Tensor:
    """Return the cosine between all pairs of signatures.

    Args:
        signatures: [n, k]; a missing signature is a row of zeros.

    Returns:
        [n, n] fp32, symmetric. The diagonal is 1. The row and column of a zero signature are 0.

    Raises:
        UpdateError: a signature is not finite.
    """
    unit, present = _normalised(signatures.float())
    result: Tensor = (unit @ unit.T).clamp_(-1.0, 1.0)
    result = (result + result.T) / 2
    result.diagonal().copy_(present.to(result.dtype))
    return result


def _normalised(signatures: Tensor) -> tuple[Tensor, Tensor]:
    """Return the signatures at length 1, and which are present, [n] bool.

    Raises:
        UpdateError: a signature is not finite.
    """
    n = len(signatures)
    if not n:
        return signatures, torch.zeros(0, dtype=torch.bool)
    unit, peak = torch.empty_like(signatures), signatures.new_empty(n, 1)
    # A few rows at a time stay in a processor's cache. Never one: torch would sum it up otherwise.
    step = max(2, CACHE // max(1, signatures[:1].nbytes))
    starts = range(0, max(1, n - 1), step)
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        rows, scaled = signatures[start:stop], unit[start:stop]
        # Row by row: along a dimension it takes ten times the time.
        ends = torch.stack([torch.stack(torch.aminmax(row)) for row in rows]).abs()
        largest = peak[start:stop].copy_(ends.amax(dim=1, keepdim=True))
        # Divide by the largest entry first: squares of tiny or huge gradients must not under- or
        # overflow.
        torch.div(rows, largest.where(largest > 0, torch.ones_like(largest)), out=scaled)
        scaled.div_(torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1e-30))
    finite = torch.isfinite(peak).squeeze(1)
    if not finite.all():
        places = (~finite).nonzero().flatten().tolist()
        raise UpdateError(f"signatures of clients in rows {places} are not finite")
    return unit, peak.squeeze(1) > 0


def relevance_weights(
    similarity: Tensor,
    tau: float = 0.5,
    top_k: int | None = None,
    exclude_self: bool = True,
    missing: Tensor | None = None,
) -> Tensor:
    """Return the softmax of similarity over the peers of each client.

    A client without a signature receives uniformly from its peers. As a peer it counts as the
    average of the peers whose signature is known, so that it is neither preferred nor excluded.

    Args:
        similarity: [n, n], see :func:`similarity`.
        tau: Temperature; at small values only the most similar peer counts.
        top_k: Keep only this many most similar peers of each row (ties: the lower index); None
            keeps all.
        exclude_self: Give a client no weight for itself; its own knowledge is in its local adapter.
        missing: [n] bool, clients without a signature; None takes those with 0 on the diagonal.

    Returns:
        [n, n] fp32; rows sum to 1. A client without peers (n = 1) has weight 1 for itself.

    Raises:
        ConfigError: ``tau`` or ``top_k`` is not positive.
    """
    if not tau > 0:
        raise ConfigError(f"relevance.tau is {tau}; it must be > 0")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"relevance.top_k is {top_k}; it must be >= 1")
    if missing is None:
        missing = similarity.diagonal() == 0
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if not exclude_self:
        own = torch.zeros_like(own)
    return weights_of_rows(similarity, own, missing, missing, tau, top_k)


def weights_of_rows(
    similarity: Tensor,
    own: Tensor,
    missing: Tensor,
    without: Tensor,
    tau: float,
    top_k: int | None = None,
) -> Tensor:
    """Return some rows of :func:`relevance_weights`.

    Args:
        similarity: [b, n].
        own: [b, n] bool, True where the column is the row's own client.
        missing: [n] bool, clients without a signature.
        without: [b] bool, whether the row's client has none.
        tau: temperature.
        top_k: number of most similar peers; None: all.
    """
    n = similarity.shape[1]
    allowed = ~own if n > 1 else torch.ones_like(own)
    known = allowed & ~missing.unsqueeze(0)
    scores = similarity.double()
    average = scores.masked_fill(~known, 0.0).sum(1) / known.sum(1).clamp_min(1)
    scores = torch.where(known, scores, average.unsqueeze(1))
    uniform_rows = without.unsqueeze(1).expand_as(own)
    scores = scores.masked_fill(uniform_rows, 0.0).masked_fill(~allowed, -torch.inf)
    if top_k is not None and top_k < n:
        dropped = scores.sort(dim=1, descending=True, stable=True).indices[:, top_k:]
        cut = scores.scatter(1, dropped, -torch.inf)
        scores = torch.where(uniform_rows, scores, cut)
    return torch.softmax(scores / tau, dim=1).to(torch.float32)


def similarity_std(similarity: Tensor) -> float:
    """Return the standard deviation of the similarities between different clients, in float64.

    A temperature in this unit gives weights that do not depend on how noisy the signatures are:
    noise that divides all cosines between different clients by one number also divides their
    standard deviation. This is not in the paper, whose tau applies to the cosines themselves.

    Args:
        similarity: [n, n], see :func:`similarity`. Clients without a signature (0 on the diagonal)
            do not count.

    Returns:
        The standard deviation; 1 if it is below 1e-6 or fewer than two clients are known.
    """
    known = similarity.diagonal() != 0
    pairs = (
        known.unsqueeze(0)
        & known.unsqueeze(1)
        & ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    )
    values = similarity.double()[pairs]
    deviation = float(values.std(correction=0)) if values.numel() else 0.0
    return deviation if deviation >= 1e-6 else 1.0


def restrict(weights: Tensor, mask: Tensor, own: Tensor | None = None) -> Tensor:
    """Return the weights re-normalised among the allowed peers.

    Args:
        weights: [b, m], a row for each receiving client.
        mask: [b, m] bool, True where row i may receive from column j.
        own: [b, m] bool, True where the column is the row's own client; None: the diagonal.

    Returns:
        [b, m]; rows sum to 1. A row without any remaining weight has weight 1 for itself.
    """
    allowed = weights.double() * mask
    total = allowed.sum(dim=1, keepdim=True)
    if own is None:
        own = torch.eye(len(weights), dtype=torch.bool, device=allowed.device)
    own = own.to(allowed.dtype)
    return torch.where(total > 0, allowed / total.where(total > 0, torch.ones_like(total)), own).to(
        weights.dtype
    )


def same_label(labels: Sequence[Hashable]) -> Tensor:
    """Return [n, n] bool, True where two clients have the same label (e.g. architecture)."""
    return torch.tensor([[a == b for b in labels] for a in labels], dtype=torch.bool).reshape(
        len(labels), len(labels)
    )


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """Return the mixture of values for every client, ``weights @ values``.

    Args:
        weights: [n, n].
        values: [n, v], one row for each client; finite, since 0 * inf is not 0.

    Returns:
        [n, v] in the dtype of ``values``, summed in fp32 or better. A row with one peer equals that
        peer's values exactly.
    """
    compute = torch.promote_types(values.dtype, torch.float32)
    return (weights.to(device=values.device, dtype=compute) @ values.to(compute)).to(values.dtype)
