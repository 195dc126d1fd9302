"""Whom a client listens to: RELA's weights, and the controls that stand in their place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.config import Scenario
from fedmosaic.relevance import (
    overlap_weights,
    permuted_weights,
    random_weights,
    relevance_weights,
    similarity_std,
    uniform_weights,
)


def peer_weights(scenario: Scenario, server: Server, names: Sequence[str], alike: Tensor) -> Tensor:
    """The weights of the clients ``names`` for each other, as ``relevance.kind`` says.

    Draws and ties go by the clients' names, so that the order in which a roster has them changes nothing.

    Args:
        alike: similarity of their signatures, [n, n]; only ``rela`` and ``permuted`` look at it.

    Returns:
        [n, n]; rows sum to 1.
    """
    order = torch.tensor(sorted(range(len(names)), key=names.__getitem__))
    weights = _by_name(scenario, server, [names[index] for index in order], alike[order][:, order])
    back = order.argsort()
    return weights[back][:, back]


def _by_name(scenario: Scenario, server: Server, names: Sequence[str], alike: Tensor) -> Tensor:
    settings = scenario.relevance
    match settings.kind:
        case "uniform":
            return uniform_weights(len(names))
        case "random":
            return random_weights(
                len(names), settings.sources, server.generator("random relevance")
            )
        case "oracle":
            families = {member.name: member.families for member in server.members}
            groups = {client.name: client.group for client in scenario.clients}
            return overlap_weights(
                [families[name] for name in names], [groups[name] for name in names]
            )
    tau = (
        settings.tau
        if settings.relative_tau is None
        else settings.relative_tau * similarity_std(alike)
    )
    weights = relevance_weights(alike, tau, settings.top_k)
    return (
        permuted_weights(weights, server.generator("permuted relevance"))
        if settings.kind == "permuted"
        else weights
    )
