"""The server's memory as matrices: for each kind of shared parameter one matrix [clients × values].

Aggregation is then one product (W @ L) and similarity another; nothing loops over layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedmosaic.errors import UpdateError


class ServerState:
    """The latest tensors of every client, by kind; rows stand in roster order.

    Args:
        roster: all client names; their order is the order of rows.
    """

    def __init__(self, roster: Sequence[str]) -> None:
        self.roster = list(roster)
        self._rows: dict[str, dict[str, Tensor]] = {}
        self._layout: dict[str, list[tuple[str, list[int]]]] = {}

    def put(self, kind: str, client: str, tensors: Mapping[str, Tensor]) -> None:
        """Replace the client's row of ``kind``. All rows of a kind must have the same names and shapes (UpdateError)."""
        layout = [(name, list(tensors[name].shape)) for name in sorted(tensors)]
        known = self._layout.setdefault(kind, layout)
        if known != layout:
            differing = next(
                (f"{a} / {b}" for a, b in zip(known, layout, strict=False) if a != b), "other names"
            )
            raise UpdateError(
                f"client {client!r}: its {kind!r} tensors do not fit those of the others: {differing}"
            )
        row = (
            torch.cat([tensors[name].detach().reshape(-1).float().cpu() for name, _ in layout])
            if layout
            else torch.empty(0)
        )
        self._rows.setdefault(kind, {})[client] = row

    def put_matrix(self, kind: str, like: str, clients: Sequence[str], matrix: Tensor) -> None:
        """Store a matrix whose columns mean what those of kind ``like`` mean (an aggregate of it, say)."""
        self._layout[kind] = self._layout[like]
        self._rows[kind] = dict(zip(clients, matrix, strict=True))

    def drop(self, kind: str) -> None:
        """Forget a kind: what only led to an aggregate need not be kept, or written into checkpoints."""
        self._rows.pop(kind, None)
        self._layout.pop(kind, None)

    def clients(self, kind: str) -> list[str]:
        """Clients that have a row of ``kind``, in roster order."""
        rows = self._rows.get(kind, {})
        return [name for name in self.roster if name in rows]

    def matrix(self, kind: str) -> Tensor:
        """The rows of ``kind`` in roster order, float32 [clients that have one, values]."""
        rows = self._rows[kind]
        return torch.stack([rows[name] for name in self.clients(kind)])

    def get(self, kind: str, client: str) -> dict[str, Tensor]:
        """The client's row as named tensors again; empty if it has none."""
        row = self._rows.get(kind, {}).get(client)
        if row is None:
            return {}
        layout = self._layout[kind]
        parts = row.split([_size(shape) for _, shape in layout])
        return {
            name: part.reshape(shape) for (name, shape), part in zip(layout, parts, strict=True)
        }

    def kinds(self) -> list[str]:
        return sorted(self._rows)

    def state(self) -> tuple[dict[str, Tensor], str]:
        """Everything as tensors and a JSON text, for checkpoints."""
        tensors = {
            f"{kind}\n{client}": row
            for kind, rows in self._rows.items()
            for client, row in rows.items()
        }
        return tensors, json.dumps(self._layout, sort_keys=True)

    def load(self, tensors: Mapping[str, Tensor], layout: str) -> None:
        """Restore what :meth:`state` gave."""
        self._layout = {
            kind: [(name, list(shape)) for name, shape in entries]
            for kind, entries in json.loads(layout).items()
        }
        self._rows = {}
        for key, row in tensors.items():
            kind, _, client = key.partition("\n")
            self._rows.setdefault(kind, {})[client] = row


def _size(shape: Sequence[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
