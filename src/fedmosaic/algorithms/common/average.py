"""The mean of what clients of one architecture sent: the server half of every algorithm that averages."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Member, Server
from fedmosaic.algorithms.message import Message


def taking_part(server: Server, updates: Mapping[str, Message]) -> dict[str, list[Member]]:
    """The clients of the round's updates by architecture, in roster order; architectures without any are left out."""
    groups: dict[str, list[Member]] = {}
    for member in server.members:
        if member.name in updates:
            groups.setdefault(member.architecture, []).append(member)
    return groups


def average(
    server: Server,
    updates: Mapping[str, Message],
    *,
    prefix: str = "",
    into: str = "mean",
    by_samples: bool = True,
) -> None:
    """For each architecture the mean of its clients' tensors, θ ← Σ_i (n_i / Σ_j n_j) θ_i; :func:`averaged` gives it back.

    The mean of an architecture from which nobody took part stays what it was.

    Args:
        prefix: only tensors whose names start with it.
        into: names the mean among others in the ledger.
        by_samples: n_i is the client's number of training samples; else every client counts the same.
    """
    for architecture, members in taking_part(server, updates).items():
        kind = f"one by one@{architecture}"
        for member in members:
            server.state.put(kind, member.name, updates[member.name].select(prefix))
        weights = torch.tensor([float(member.samples) if by_samples else 1.0 for member in members])
        mean = (weights / weights.sum()) @ server.state.matrix(kind)
        server.state.put_matrix(f"{into}@{architecture}", kind, [architecture], mean[None])
        server.state.drop(kind)


def averaged(server: Server, architecture: str, into: str = "mean") -> dict[str, Tensor]:
    """What :func:`average` stored for an architecture; empty before."""
    return server.state.get(f"{into}@{architecture}", architecture)
