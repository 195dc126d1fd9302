"""Average the uploads of one architecture: the server half of every averaging algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Member, Server
from fedmosaic.algorithms.common.trimmed import trimmed_mean
from fedmosaic.algorithms.layout import Layout
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey

MEAN = "mean"


def taking_part(server: Server, updates: Mapping[str, Message]) -> dict[str, list[Member]]:
    """Return the clients that sent an update, by architecture and in roster order.

    Architectures without any are left out.
    """
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
    kind: str = MEAN,
    by_samples: bool = True,
    trim: float = 0.0,
) -> None:
    """Store for each architecture the mean of its clients' tensors, θ ← Σ_i (n_i / Σ_j n_j) θ_i.

    :func:`averaged` returns it. The mean of an architecture from which nobody took part stays what
    it was. With ``trim`` it is the trimmed mean (Yin et al. 2018, arXiv 1803.01498), and the number
    of values left out at each end is recorded.

    Args:
        server: its ``state`` receives the means.
        updates: of the round, by client.
        prefix: only tensors whose names start with it; default: all.
        kind: names the mean in the server's state.
        by_samples: n_i is the client's number of training samples; else every client counts alike.
        trim: share of the clients whose values are left out at each end of every number. Clients
            then count alike, since a client could claim any number of samples.

    Raises:
        UpdateError: two clients of an architecture sent tensors of different names or shapes.
    """
    dropped = {}
    for architecture, members in taking_part(server, updates).items():
        layout = Layout.of(updates[members[0].name].select(prefix))

        def rows(part: slice, members: list[Member] = members, layout: Layout = layout) -> Tensor:
            return torch.stack(
                [_row(updates, member.name, prefix, layout) for member in members[part]]
            )

        # One product, as long as all updates fit into memory at once.
        count = server.state.storage.stack_size(layout.values, len(members))
        if trim:
            dropped[architecture] = int(trim * len(members) + 1e-9)
            mean = trimmed_mean(rows, len(members), layout.values, dropped[architecture], count)
        else:
            samples = [float(member.samples) if by_samples else 1.0 for member in members]
            weights = torch.tensor(samples)
            mean = _weighted(rows, weights / weights.sum(), count)
        server.state.put(StateKey(kind, architecture), layout.split(mean))
    if trim:
        server.record("trimmed", dropped)


def _row(updates: Mapping[str, Message], name: str, prefix: str, layout: Layout) -> Tensor:
    return layout.flatten(updates[name].select(prefix), f"client {name!r}")


def _weighted(rows: Callable[[slice], Tensor], weights: Tensor, count: int) -> Tensor:
    """Return the weighted sum of the rows, ``count`` of which are in memory at a time."""
    mean: Tensor | None = None
    for start in range(0, len(weights), count):
        part = slice(start, start + count)
        product = weights[part] @ rows(part)
        mean = product if mean is None else mean + product
    assert mean is not None
    return mean


def averaged(server: Server, architecture: str, kind: str = MEAN) -> dict[str, Tensor]:
    """Return the mean that ``average`` stored for an architecture; empty before the first."""
    return server.state.get(StateKey(kind, architecture))
