"""Compute RELA's weights for more clients than whole matrices are held of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.algorithms.common.weight_rows import WeightRows, in_blocks, top_k_rows
from fedmosaic.algorithms.rows import DiskRows, MemoryRows, Rows
from fedmosaic.algorithms.state import ServerState, StateKey
from fedmosaic.algorithms.storage import FLOAT
from fedmosaic.config import RelevanceSettings
from fedmosaic.relevance.peer_search import nearest_peers, scaled_signatures
from fedmosaic.relevance.weights import weights_of_rows

Blocks = Callable[[], Iterator[WeightRows]]
WholeWeights = Callable[[Sequence[str], Tensor], Tensor]
# Fewer candidates than this save no time.
CANDIDATES = 64


class StoredSignatures:
    """Read the clients' signatures from the server's state.

    Args:
        state: the server's state.
        key: of the signatures.
        names: the clients, in the order of rows.
    """

    def __init__(self, state: ServerState, key: StateKey, names: Sequence[str]) -> None:
        self._state, self._key, self._names = state, key, names
        self.count, self.values = len(names), state.values(key)
        self.block = state.storage.block

    def read(self, rows: range, columns: range) -> Tensor:
        """Return some rows and columns."""
        names = self._names[rows.start : rows.stop]
        return self._state.read(self._key, names, columns.start, columns.stop)


@contextmanager
def weights_in_blocks(
    settings: RelevanceSettings,
    server: Server,
    key: StateKey,
    names: Sequence[str],
    whole: WholeWeights,
) -> Iterator[Blocks]:
    """Yield a function that returns the clients' weights block by block.

    Args:
        settings: the scenario's ``relevance`` section.
        server: its ``state`` has the signatures.
        key: of the signatures.
        names: the clients, sorted, so that ties do not depend on the roster.
        whole: returns all weights at once; for the controls of ``relevance.kind``.
    """
    signatures, n = StoredSignatures(server.state, key, names), len(names)
    if server.receivers is not None and settings.kind == "rela" and settings.relative_tau is None:
        rows = [_rows_of_receivers(settings, signatures, names, server.receivers)]
        yield lambda: iter(rows)
        return
    if _by_sketches(settings, n):
        assert settings.top_k is not None
        count = settings.candidates or max(CANDIDATES, 4 * settings.top_k)
        found = nearest_peers(signatures, settings.top_k, max(count, settings.top_k))
        largest = top_k_rows(found, settings.top_k, settings.tau)
        yield lambda: _received(largest, names, server)
        return
    with _similarities(signatures, server.state) as (similar, present):
        if settings.kind == "rela":
            tau = settings.tau
            if settings.relative_tau is not None:
                tau = settings.relative_tau * _deviation(similar, present)
            top_k, missing = settings.top_k, ~present

            def weights(part: range) -> tuple[Tensor, Tensor]:
                found, own = similar(part), torch.zeros(len(part), n, dtype=torch.bool)
                own[torch.arange(len(part)), torch.arange(part.start, part.stop)] = True
                without = missing[part.start : part.stop]
                return weights_of_rows(found, own, missing, without, tau, top_k), found
        else:
            all_weights = whole(names, similar(range(n)))

            def weights(part: range) -> tuple[Tensor, Tensor]:
                return all_weights[part.start : part.stop], similar(part)

        yield lambda: _received(in_blocks(n, weights), names, server)


def _received(
    blocks: Iterable[WeightRows], names: Sequence[str], server: Server
) -> Iterator[WeightRows]:
    """Yield the rows of the clients that receive next."""
    if server.receivers is None:
        yield from blocks
        return
    due = torch.tensor([name in set(server.receivers) for name in names])
    for block in blocks:
        yield block.of(due[block.rows])


def _rows_of_receivers(
    settings: RelevanceSettings,
    signatures: StoredSignatures,
    names: Sequence[str],
    receivers: Sequence[str],
) -> WeightRows:
    """Return the weights of a few clients for all others."""
    place = {name: number for number, name in enumerate(names)}
    found = [place[name] for name in sorted(receivers) if name in place]
    rows = torch.tensor(found, dtype=torch.long)
    scaled, n = scaled_signatures(signatures), signatures.count
    similar, own = torch.zeros(len(rows), n), rows[:, None] == torch.arange(n)
    for unit in scaled.columns():
        similar.addmm_(unit[rows], unit.T)
    similar.clamp_(-1.0, 1.0)
    similar[own] = scaled.present[rows].float()
    missing = ~scaled.present
    weights = weights_of_rows(similar, own, missing, missing[rows], settings.tau, settings.top_k)
    return WeightRows(rows, None, weights, similar)


def _by_sketches(settings: RelevanceSettings, n: int) -> bool:
    return (
        settings.kind == "rela"
        and settings.top_k is not None
        and settings.top_k < n - 1
        and settings.relative_tau is None
        and settings.candidates != 0
    )


@contextmanager
def _similarities(
    signatures: StoredSignatures, state: ServerState
) -> Iterator[tuple[Callable[[range], Tensor], Tensor]]:
    """Compute all similarities once.

    Yields:
        a function that returns those of some clients [b, n], and which clients have a signature.
    """
    scaled, n, storage = scaled_signatures(signatures), signatures.count, state.storage
    size = n * n * FLOAT
    in_memory = storage.reserve(size)
    rows: Rows = MemoryRows(n, storage, n) if in_memory else DiskRows(n, storage)
    places = [str(place) for place in range(n)]
    # One pass over the signatures where the whole matrix may be in memory.
    step = n if in_memory else max(1, storage.block // (FLOAT * n))
    for start in range(0, n, step):
        part = range(start, min(start + step, n))
        block = torch.zeros(len(part), n)
        for unit in scaled.columns():
            block.addmm_(unit[start : part.stop], unit.T)
        block.clamp_(-1.0, 1.0)
        at = torch.arange(len(part))
        block[at, at + start] = scaled.present[start : part.stop].float()
        rows.write(places[start : part.stop], 0, block)
    try:
        yield lambda part: rows.read(places[part.start : part.stop]), scaled.present
    finally:
        rows.delete()
        storage.release(size if in_memory else 0)


def _deviation(similar: Callable[[range], Tensor], present: Tensor) -> float:
    """Return :func:`~fedmosaic.relevance.weights.similarity_std`, computed block by block."""
    n, known = len(present), int(present.sum())
    total, squares = 0.0, 0.0
    for block in in_blocks(n, lambda part: (similar(part), similar(part))):
        values = block.values.double().masked_fill(block.own(), 0.0)
        total += float(values.sum())
        squares += float((values * values).sum())
    pairs = known * (known - 1)
    if not pairs:
        return 1.0
    mean = total / pairs
    deviation = max(0.0, squares / pairs - mean * mean) ** 0.5
    return deviation if deviation >= 1e-6 else 1.0
