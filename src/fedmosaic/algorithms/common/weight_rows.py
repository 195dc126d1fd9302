"""Compute the weights of many clients for each other in blocks of rows, and mix rows with them.

No matrix [clients, clients] is held: with ``relevance.top_k`` a client has a weight for few peers,
else weights are computed for a block of clients at a time from their similarities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedmosaic.algorithms.state import ServerState, StateKey
from fedmosaic.relevance.peer_search import COLUMNS, Peers, csr
from fedmosaic.relevance.weights import mix

# Peers of each client that a round's record lists where ``top_k`` is not set.
LISTED = 16
# Most clients whose whole matrices a round's record holds: nobody can read larger ones, and each
# takes megabytes in every round.
RECORDED = 200
# Weights of whole rows that are computed at a time.
ENTRIES = 1 << 23


@dataclass(frozen=True)
class WeightRows:
    """Hold the weights of some clients for their peers.

    Attributes:
        rows: [b] int64, places of the clients that receive.
        peers: [b, m] int64, places of those they may receive from, without repetition; None: all,
            in order.
        values: [b, m] float32, the weights.
        similarity: [b, m], the similarities that they come from.
    """

    rows: Tensor
    peers: Tensor | None
    values: Tensor
    similarity: Tensor

    def own(self) -> Tensor:
        """Return [b, m] bool, True where the peer is the client itself."""
        places = torch.arange(self.values.shape[1]) if self.peers is None else self.peers
        return self.rows.unsqueeze(1) == places

    def same(self, labels: Tensor) -> Tensor:
        """Return [b, m] bool, True where client and peer have one label; labels [n] int64."""
        theirs = labels if self.peers is None else labels[self.peers]
        return labels[self.rows].unsqueeze(1) == theirs

    def of(self, chosen: Tensor) -> WeightRows:
        """Return some of the rows; ``chosen`` is [b] bool."""
        peers = None if self.peers is None else self.peers[chosen]
        return WeightRows(self.rows[chosen], peers, self.values[chosen], self.similarity[chosen])

    def among(self, members: Tensor, count: int) -> WeightRows:
        """Return the rows and peers of some clients only, by their places among these.

        Args:
            members: [c] int64, their places, rising; weights for others must be 0.
            count: number of all clients.
        """
        place = torch.full((count,), -1)
        place[members] = torch.arange(len(members))
        own = self.of(place[self.rows] >= 0)
        rows, values, similarity = place[own.rows], own.values, own.similarity
        if own.peers is None:
            return WeightRows(rows, None, values[:, members], similarity[:, members])
        return WeightRows(rows, place[own.peers].clamp_min(0), values, similarity)

    def product(self, values: Tensor) -> Tensor:
        """Return the weighted sums of the peers' values [n, c]: [b, c]."""
        if self.peers is None:
            return self.values @ values
        order = self.peers.argsort(dim=1)
        peers, weights = self.peers.gather(1, order), self.values.gather(1, order)
        used = weights != 0
        matrix = csr(used.sum(1), peers[used], weights[used], len(values))
        # Few columns at a time stay in a processor's cache.
        return torch.cat([matrix @ part for part in values.split(COLUMNS, dim=1)], dim=1)


def mix_rows(
    state: ServerState,
    source: StateKey,
    target: StateKey,
    names: Sequence[str],
    blocks: Iterable[WeightRows],
    count: int | None = None,
) -> None:
    """Store the weighted sums of the clients' rows, computed in blocks of columns.

    Args:
        state: has the rows, and receives the sums.
        source: the key of the rows.
        target: the key of the sums, one row for each client; earlier ones are replaced.
        names: the clients in the order of places.
        blocks: the weights.
        count: most clients that have weights; None: all.
    """
    rows = state.new_rows(target, source, len(names) if count is None else min(count, len(names)))
    values = state.values(source)
    for block in blocks:
        receivers = [names[place] for place in block.rows.tolist()]
        if not receivers:
            continue
        width = max(1, state.storage.block // (4 * (len(names) + len(receivers))))
        for start in range(0, values, width):
            stop = min(start + width, values)
            sums = block.product(state.read(source, names, start, stop))
            rows.write(receivers, start, sums)


def mix_all(
    state: ServerState, source: StateKey, target: StateKey, names: Sequence[str], weights: Tensor
) -> None:
    """Store ``weights @ rows``: one product where all is in memory, else as :func:`mix_rows`.

    Args:
        state: has the rows, and receives the sums.
        source: the key of the rows.
        target: the key of the sums; earlier ones are replaced.
        names: the clients, in roster order.
        weights: [n, n].
    """
    if state.fits(target, source, len(names)):
        state.put_matrix(target, source, names, mix(weights, state.read(source, names)))
        return
    rows = WeightRows(torch.arange(len(names)), None, weights, weights)
    mix_rows(state, source, target, names, [rows])


def top_k_rows(found: Peers, k: int, tau: float) -> list[WeightRows]:
    """Return the weights for the ``k`` most similar peers of each client.

    As of :func:`~fedmosaic.relevance.weights.relevance_weights`: a client without a signature
    receives uniformly, and as a peer it counts as the average of the others.
    """
    n = len(found.peers)
    absent = (~found.present).nonzero().flatten()
    with_signature = found.present.nonzero().flatten()
    stand_in = absent[:k]
    peers = torch.cat(
        [found.peers[with_signature], stand_in.expand(len(with_signature), -1)], dim=1
    )
    scores = torch.cat(
        [
            found.similarity[with_signature],
            found.average[with_signature].unsqueeze(1).expand(-1, len(stand_in)),
        ],
        dim=1,
    )
    by_place = peers.argsort(dim=1)
    peers, scores = peers.gather(1, by_place), scores.gather(1, by_place)
    best = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    peers, scores = peers.gather(1, best), scores.gather(1, best)
    weights = torch.softmax(scores / tau, dim=1).float()
    known = scores.masked_fill(~found.present[peers], 0.0).float()
    oneself, nothing = with_signature.unsqueeze(1), torch.zeros(len(with_signature), 1)
    rows = [
        WeightRows(
            with_signature,
            torch.cat([oneself, peers], dim=1),
            torch.cat([nothing, weights], dim=1),
            torch.cat([nothing + 1, known], dim=1),
        )
    ]
    for part in absent.split(max(1, ENTRIES // n)):
        uniform = torch.full((len(part), n), 1 / max(1, n - 1))
        uniform[torch.arange(len(part)), part] = 0.0
        rows.append(WeightRows(part, None, uniform, torch.zeros(1).expand_as(uniform)))
    return [block for block in rows if len(block.rows)]


def recorded(
    names: Sequence[str], weights: Tensor, similarities: Tensor, count: int
) -> dict[str, Any]:
    """Return weights and similarities, [n, n], for the round's record; the largest of many clients.

    Args:
        names: the clients in the order of rows.
        weights: w.
        similarities: those of their signatures.
        count: number of peers where they are listed.
    """
    if len(names) <= RECORDED:
        whole = {"weights": weights.tolist(), "similarity": similarities.tolist()}
        return {"clients": list(names), **whole}
    rows = WeightRows(torch.arange(len(names)), None, weights, similarities)
    return listed(names, [rows], count)


def listed(names: Sequence[str], blocks: Iterable[WeightRows], count: int) -> dict[str, Any]:
    """Return the largest weights of each client, for the round's record.

    Args:
        names: the clients in the order of places.
        blocks: the weights.
        count: number of peers.
    """
    columns: dict[str, list[list[Any]]] = {
        name: [[]] * len(names) for name in ("peers", "weights", "similarity")
    }
    for block in blocks:
        weights = block.values.masked_fill(block.own(), -1.0)
        best = weights.topk(min(count, len(names) - 1, weights.shape[1]), dim=1).indices
        places = best if block.peers is None else block.peers.gather(1, best)
        found = (places, block.values.gather(1, best), block.similarity.gather(1, best))
        for name, values in zip(columns, (part.tolist() for part in found), strict=True):
            for row, largest in zip(block.rows.tolist(), values, strict=True):
                columns[name][row] = largest
    return {"clients": list(names), **columns}


def in_blocks(n: int, rows: Callable[[range], tuple[Tensor, Tensor]]) -> Iterator[WeightRows]:
    """Yield whole rows in blocks; ``rows`` returns weights and similarities of some, [b, n]."""
    step = max(1, ENTRIES // n)
    for start in range(0, n, step):
        part = range(start, min(start + step, n))
        yield WeightRows(torch.arange(part.start, part.stop), None, *rows(part))
