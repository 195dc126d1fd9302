"""Provide weights to compare RELA with: uniform, permuted, random, and by true task overlap.

Rows and columns are those of :mod:`fedmosaic.relevance.weights`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.errors import ConfigError
from fedmosaic.relevance.weights import relevance_weights, restrict, same_label


def uniform_weights(n: int) -> Tensor:
    """Return weights without relevance: 1/(n-1) for every peer, 0 for oneself; [n, n] fp32.

    A single client (n = 1) has weight 1 for itself.
    """
    return relevance_weights(torch.eye(n))


def permuted_weights(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Return [n, n] weights with the off-diagonal entries of each row in random order.

    The weights stay the same but go to the wrong peers.
    """
    n = len(weights)
    peers = ~torch.eye(n, dtype=torch.bool, device=weights.device)
    order = torch.rand(n, max(n - 1, 0), generator=generator).argsort(dim=1).to(weights.device)
    result = weights.clone()
    result[peers] = (
        weights[peers].reshape(n, -1).gather(1, order).flatten() if n > 1 else weights[peers]
    )
    return result


def random_weights(n: int, sources: int, generator: torch.Generator) -> Tensor:
    """Return equal weights for ``sources`` random peers of each client.

    Returns:
        [n, n] fp32; rows sum to 1. A single client (n = 1) has weight 1 for itself.

    Raises:
        ConfigError: ``sources`` is not positive.
    """
    if sources < 1:
        raise ConfigError(f"relevance.sources is {sources}; it must be >= 1")
    own = torch.eye(n, dtype=torch.bool)
    order = torch.rand(n, n, generator=generator).masked_fill_(own, 2.0).argsort(dim=1)
    chosen = torch.zeros(n, n).scatter_(1, order[:, : min(sources, n - 1)], 1.0)
    return restrict(chosen, ~own)


def overlap_weights(families: Sequence[Sequence[str]], groups: Sequence[str]) -> Tensor:
    """Return weights from the task families that clients have in common (an oracle).

    No client may know the tasks of another, so this is a control and no method.

        o_ij = Σ_f min(n_i(f), n_j(f)),   w_ij = o_ij / Σ_{k≠i} o_ik

    with n_i(f) the number of client i's tasks of family f. A client whose families no other client
    has weighs all peers of its group equally, or all peers where it has no group.

    Args:
        families: Family of each task, for each client.
        groups: Group of each client; empty where it has none.

    Returns:
        [n, n] fp32; rows sum to 1 and exclude oneself. A single client has weight 1 for itself.
    """
    counts = [Counter(tasks) for tasks in families]
    peers = ~torch.eye(len(counts), dtype=torch.bool)
    weights = (
        torch.tensor([[float((a & b).total()) for b in counts] for a in counts]).reshape(
            peers.shape
        )
        * peers
    )
    grouped = same_label(groups) & torch.tensor([group != "" for group in groups], dtype=torch.bool)
    for substitute in (grouped & peers, peers):
        weights = torch.where(
            weights.sum(1, keepdim=True) > 0, weights, substitute.to(weights.dtype)
        )
    return restrict(weights, peers)
