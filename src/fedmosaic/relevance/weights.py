"""The server's side of RELA (arXiv 2506.11024, section 4.1): signatures to similarity, weights and mixtures.

    S_ij = cos(g_i, g_j)      w_ij = softmax_j(S_ij / tau), j != i      G_i = sum_j w_ij L_j

All of it is two matrix products: S = N N^T on normalised signatures and G = W L on the clients' values.
A row of W belongs to the client who receives, a column to the client who gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from fedmosaic.errors import ConfigError, UpdateError


def similarity(signatures: Tensor) -> Tensor:
    """Cosine between all pairs of signatures.

    Args:
        signatures: [n, k]; a missing signature is a row of zeros.

    Returns:
        [n, n] fp32, symmetric; 1 on the diagonal, and 0 in the whole row and column of a zero signature.

    Raises:
        UpdateError: a signature is not finite.
    """
    finite = torch.isfinite(signatures).all(dim=1)
    if not finite.all():
        rows = (~finite).nonzero().flatten().tolist()
        raise UpdateError(f"signatures of clients in rows {rows} are not finite")
    signatures = signatures.float()
    # Division by the largest entry first: squares of tiny or huge gradients must not under- or overflow.
    peak = signatures.abs().amax(dim=1, keepdim=True)
    present = peak.squeeze(1) > 0
    unit = signatures / peak.where(peak > 0, torch.ones_like(peak))
    unit = unit / torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_min(1e-30)
    result: Tensor = (unit @ unit.T).clamp_(-1.0, 1.0)
    result = (result + result.T) / 2
    result.diagonal().copy_(present.to(result.dtype))
    return result


def relevance_weights(
    similarity: Tensor,
    tau: float = 0.5,
    top_k: int | None = None,
    exclude_self: bool = True,
    missing: Tensor | None = None,
) -> Tensor:
    """Softmax of similarity over the peers.

    A client without a signature receives uniformly from its peers. As a peer it counts as the average of the peers
    whose signature is known, so that it is neither preferred nor shut out.

    Args:
        similarity: [n, n], see :func:`similarity`.
        tau: temperature; small values listen to the most similar peer only.
        top_k: keep only this many most similar peers of each row (ties: the lower index); None keeps all.
        exclude_self: a client's own knowledge is its local branch, so it does not receive from itself.
        missing: [n] bool, clients without a signature; None takes those with 0 on the diagonal.

    Returns:
        [n, n] fp32; rows sum to 1. A client without peers (n = 1) keeps its own.

    Raises:
        ConfigError: ``tau`` or ``top_k`` is not positive.
    """
    if not tau > 0:
        raise ConfigError(f"relevance: tau must be > 0, got {tau}")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"relevance: top_k must be >= 1, got {top_k}")
    n = len(similarity)
    if missing is None:
        missing = similarity.diagonal() == 0
    own = torch.eye(n, dtype=torch.bool, device=similarity.device)
    allowed = ~own if exclude_self and n > 1 else torch.ones_like(own)

    known = allowed & ~missing.unsqueeze(0)
    scores = similarity.double()
    average = scores.masked_fill(~known, 0.0).sum(1) / known.sum(1).clamp_min(1)
    scores = torch.where(known, scores, average.unsqueeze(1))
    uniform_rows = missing.unsqueeze(1).expand(n, n)
    scores = scores.masked_fill(uniform_rows, 0.0).masked_fill(~allowed, -torch.inf)
    if top_k is not None and top_k < n:
        dropped = scores.sort(dim=1, descending=True, stable=True).indices[:, top_k:]
        cut = scores.scatter(1, dropped, -torch.inf)
        scores = torch.where(uniform_rows, scores, cut)
    return torch.softmax(scores / tau, dim=1).to(torch.float32)


def spread(similarity: Tensor) -> float:
    """How far the similarities of different clients lie apart: their standard deviation, in float64.

    A temperature in this unit gives weights that do not depend on how noisy the signatures are: noise that divides all cosines between
    different clients by the same number divides it, too. Not in the paper, whose tau is a number for cosines as they come.

    Args:
        similarity: [n, n], see :func:`similarity`; clients without a signature (0 on the diagonal) do not count.

    Returns:
        The standard deviation; 1 where there is nothing to tell apart (it would be below 1e-6, or fewer than two clients are known).
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


def restrict(weights: Tensor, mask: Tensor) -> Tensor:
    """Weights re-normalised among the allowed peers.

    Args:
        weights: [n, n].
        mask: [n, n] bool, True where row i may receive from column j.

    Returns:
        [n, n]; rows sum to 1. A row that is left without any weight receives from itself alone.
    """
    kept = weights.double() * mask
    total = kept.sum(dim=1, keepdim=True)
    own = torch.eye(len(weights), dtype=kept.dtype, device=kept.device)
    return torch.where(total > 0, kept / total.where(total > 0, torch.ones_like(total)), own).to(
        weights.dtype
    )


def same(labels: Sequence[Hashable]) -> Tensor:
    """[n, n] bool, True where two clients bear the same label (such as their architecture)."""
    return torch.tensor([[a == b for b in labels] for a in labels], dtype=torch.bool).reshape(
        len(labels), len(labels)
    )


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """Every client's mixture, ``weights @ values``.

    Args:
        weights: [n, n].
        values: [n, v], one row for each client; finite, since 0 * inf is not 0.

    Returns:
        [n, v] in the dtype of ``values``, summed in fp32 or better; a row with one peer gets its values exactly.
    """
    compute = torch.promote_types(values.dtype, torch.float32)
    return (weights.to(device=values.device, dtype=compute) @ values.to(compute)).to(values.dtype)


def uniform(n: int) -> Tensor:
    """The control that knows no relevance: every peer weighs 1/(n-1), oneself 0; n = 1 keeps its own. [n, n] fp32."""
    return relevance_weights(torch.eye(n))


def permuted(weights: Tensor, generator: torch.Generator) -> Tensor:
    """The control with the same weights at the wrong peers: each row's off-diagonal entries in random order, [n, n]."""
    n = len(weights)
    peers = ~torch.eye(n, dtype=torch.bool, device=weights.device)
    order = torch.rand(n, max(n - 1, 0), generator=generator).argsort(dim=1).to(weights.device)
    result = weights.clone()
    result[peers] = (
        weights[peers].reshape(n, -1).gather(1, order).flatten() if n > 1 else weights[peers]
    )
    return result


def random_sources(n: int, sources: int, generator: torch.Generator) -> Tensor:
    """The control that listens to ``sources`` random peers, alike; n = 1 keeps its own. [n, n] fp32, rows sum to 1.

    Raises:
        ConfigError: ``sources`` is not positive.
    """
    if sources < 1:
        raise ConfigError(f"relevance: random sources must be >= 1, got {sources}")
    own = torch.eye(n, dtype=torch.bool)
    order = torch.rand(n, n, generator=generator).masked_fill_(own, 2.0).argsort(dim=1)
    chosen = torch.zeros(n, n).scatter_(1, order[:, : min(sources, n - 1)], 1.0)
    return restrict(chosen, ~own)


def overlap_weights(families: Sequence[Sequence[str]], groups: Sequence[str]) -> Tensor:
    """The control that knows the truth: what the clients' tasks have in common, which no client may know of another.

        o_ij = Σ_f min(n_i(f), n_j(f)),   w_ij = o_ij / Σ_{k≠i} o_ik

    with n_i(f) the number of client i's tasks of family f. A client whose families no other has listens to its group alike, and one
    without a group to all alike.

    Args:
        families: of each client's tasks. groups: of each client; empty where it has none.

    Returns:
        [n, n] fp32; rows sum to 1 and exclude oneself; n = 1 keeps its own.
    """
    counts = [Counter(tasks) for tasks in families]
    peers = ~torch.eye(len(counts), dtype=torch.bool)
    weights = (
        torch.tensor([[float((a & b).total()) for b in counts] for a in counts]).reshape(
            peers.shape
        )
        * peers
    )
    grouped = same(groups) & torch.tensor([group != "" for group in groups], dtype=torch.bool)
    for substitute in (grouped & peers, peers):
        weights = torch.where(
            weights.sum(1, keepdim=True) > 0, weights, substitute.to(weights.dtype)
        )
    return restrict(weights, peers)
