"""Compute the clients' weights for each other: RELA's, and the controls that replace them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.config import RelevanceSettings
from fedmosaic.relevance import (
    permuted_weights,
    random_weights,
    relevance_weights,
    similarity_std,
    uniform_weights,
)

# These name random draws; published runs depend on them.
RANDOM, PERMUTED = "random relevance", "permuted relevance"


def peer_weights(
    settings: RelevanceSettings, server: Server, names: Sequence[str], similarities: Tensor
) -> Tensor:
    """Return the weights of the clients for each other, as ``relevance.kind`` says.

    Draws and ties go by the clients' names, so that their order in the roster changes nothing.

    Args:
        settings: the scenario's ``relevance`` section.
        server: draws random numbers.
        names: of the clients, in the order of rows and columns.
        similarities: of their signatures, [n, n]; ``uniform`` and ``random`` do not use them.

    Returns:
        [n, n]; rows sum to 1.
    """
    order = torch.tensor(sorted(range(len(names)), key=names.__getitem__))
    weights = _weights(settings, server, similarities[order][:, order])
    back = order.argsort()
    return weights[back][:, back]


def _weights(settings: RelevanceSettings, server: Server, similarities: Tensor) -> Tensor:
    if settings.kind == "uniform":
        return uniform_weights(len(similarities))
    if settings.kind == "random":
        return random_weights(len(similarities), settings.sources, server.generator(RANDOM))
    tau = (
        settings.tau
        if settings.relative_tau is None
        else settings.relative_tau * similarity_std(similarities)
    )
    weights = relevance_weights(similarities, tau, settings.top_k)
    if settings.kind == "permuted":
        return permuted_weights(weights, server.generator(PERMUTED))
    return weights
