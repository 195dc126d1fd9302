"""Hold the server's memory as matrices: for each kind of tensors one matrix [clients, values].

Aggregation is then one product (W @ L) and similarity another; nothing loops over layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fedmosaic.algorithms.layout import Layout
from fedmosaic.algorithms.rows import DiskRows, MemoryRows, Rows
from fedmosaic.algorithms.storage import FLOAT, Storage


class StateKey(NamedTuple):
    """Name one matrix of the server's state.

    Attributes:
        kind: what the tensors are, such as ``mean`` or ``signature``.
        architecture: the model whose tensors they are; None where all models share one layout.
        rank: rank of the adapters; None where it plays no part.
    """

    kind: str
    architecture: str | None = None
    rank: int | None = None


class ServerState:
    """Keep what the server remembers between rounds: a row of values for each key and client.

    A row may also belong to no client, such as an average; it is put and read without a client.
    A matrix is held in memory as long as all fit into the storage's limit, else in files.

    Args:
        roster: names of all clients; matrices have their rows in this order.
        storage: limit and files; None: everything is held in memory.
        sizes: number of clients by architecture, to make room for; others: the whole roster.

    Attributes:
        before_change: called before rows change in place, for a checkpoint that still reads them.
    """

    def __init__(
        self,
        roster: Sequence[str],
        storage: Storage | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.roster = list(roster)
        self.storage = storage or Storage()
        self._sizes = sizes or {}
        self._rows: dict[StateKey, Rows] = {}
        self._layouts: dict[StateKey, Layout] = {}
        self._reserved: dict[StateKey, int | None] = {}
        self.before_change: Callable[[], None] = lambda: None

    def put(self, key: StateKey, tensors: Mapping[str, Tensor], client: str | None = None) -> None:
        """Store the tensors of a client under a key in place of earlier ones.

        Args:
            key: names the matrix.
            tensors: of the same names and shapes for all clients; stored as float32.
            client: whose they are; None where they are no client's.

        Raises:
            UpdateError: names or shapes differ from those already there under the key.
        """
        self.before_change()
        layout = self._layouts.setdefault(key, Layout.of(tensors))
        whose = f"{key.kind} of client {client!r}" if client else key.kind
        parts = layout.parts(tensors, whose)
        if key not in self._rows:
            count = self._sizes.get(key.architecture or "", len(self.roster))
            self._rows[key] = self._room(key, 1 if client is None else count)
        self._rows[key].put(client, parts)

    def put_matrix(
        self, key: StateKey, like: StateKey, clients: Sequence[str], matrix: Tensor
    ) -> None:
        """Store one row for each client in place of all earlier rows of the key.

        Args:
            key: names the matrix.
            like: the key whose layout the columns have.
            clients: the clients of the rows, in order.
            matrix: float32 [clients, values]; nobody may write to it afterwards.
        """
        layout = self._layouts[like]
        self.drop(key)
        self._layouts[key] = layout
        rows = self._room(key, len(clients), matrix)
        if isinstance(rows, DiskRows):
            rows.write(clients, 0, matrix)
        else:
            rows = MemoryRows.of(clients, matrix, self.storage)
        self._rows[key] = rows

    def new_rows(self, key: StateKey, like: StateKey, count: int) -> Rows:
        """Return room for rows, still empty, in place of all earlier rows of the key.

        Args:
            key: names the matrix.
            like: the key whose layout the columns have.
            count: number of rows that will be written.
        """
        layout = self._layouts[like]
        self.drop(key)
        self._layouts[key] = layout
        self._rows[key] = self._room(key, count)
        return self._rows[key]

    def fits(self, key: StateKey, like: StateKey, count: int) -> bool:
        """Return whether all rows of ``like`` and ``count`` new ones of ``key`` are in memory."""
        size = count * self.values(like) * FLOAT - (self._reserved.get(key) or 0)
        limit = self.storage.limit
        return self.in_memory(like) and (limit is None or self.storage.used + size <= limit)

    def drop(self, key: StateKey) -> None:
        """Forget all rows of a key."""
        rows = self._rows.pop(key, None)
        if rows is not None:
            rows.delete()
        self.storage.release(self._reserved.pop(key, None) or 0)
        self._layouts.pop(key, None)

    def _room(self, key: StateKey, count: int, matrix: Tensor | None = None) -> Rows:
        """Return a new place for rows: in memory if ``count`` of them fit, else in files."""
        values = self._layouts[key].values
        size = count * values * FLOAT
        if not self.storage.reserve(size):
            self._reserved[key] = None
            return DiskRows(values, self.storage)
        self._reserved[key] = size
        return MemoryRows(values, self.storage, count if matrix is None else 0)

    def in_memory(self, key: StateKey) -> bool:
        """Return whether the rows of a key are held in memory."""
        return isinstance(self._rows[key], MemoryRows)

    def clients(self, key: StateKey) -> list[str]:
        """Return the clients that have a row under the key, in roster order."""
        rows = set(self._rows[key].clients()) if key in self._rows else set()
        return [name for name in self.roster if name in rows]

    def values(self, key: StateKey) -> int:
        """Return the length of a row of the key."""
        return self._layouts[key].values

    def matrix(self, key: StateKey) -> Tensor:
        """Return the clients' rows in roster order, float32 [clients that have one, values].

        It may be the stored matrix itself: nobody may write to it.
        """
        return self.read(key, self.clients(key))

    def read(
        self, key: StateKey, clients: Sequence[str], start: int = 0, stop: int | None = None
    ) -> Tensor:
        """Return columns ``start`` to ``stop`` of some clients' rows, [clients, columns]."""
        return self._rows[key].read(clients, start, stop)

    def get(self, key: StateKey, client: str | None = None) -> dict[str, Tensor]:
        """Return a client's row as named tensors; empty if it has none.

        Args:
            key: names the matrix.
            client: whose row; None for the one that is no client's.
        """
        rows = self._rows.get(key)
        if rows is None or not rows.has(client):
            return {}
        return self._layouts[key].split(rows.row(client))

    def known_keys(self) -> list[StateKey]:
        """Return the keys under which something is stored, in the order of their first use."""
        return list(self._rows)

    # --- checkpoints --------------------------------------------------------------------------
    def state_dict(self, folder: Path | None = None) -> tuple[dict[str, Tensor], str]:
        """Return tensors by name and a JSON text of keys and layouts, for a checkpoint.

        Args:
            folder: rows that have not changed since the last checkpoint, and those in files, are
                linked into it. None: all rows are among the tensors.
        """
        tensors = {}
        described = []
        for number, key in enumerate(sorted(self._rows, key=json.dumps)):
            rows = self._rows[key]
            clients = sorted(rows.clients(), key=json.dumps)
            entry: dict[str, Any] = {"key": list(key), "clients": clients}
            entry |= {"layout": self._layouts[key].entries, "reserved": self._reserved[key]}
            saved = rows.save(folder, f"rows-{number}") if folder else None
            if saved is not None:
                entry["saved"] = saved
            else:
                for index, client in enumerate(clients):
                    tensors[f"{number}/{index}"] = rows.stored(client)
            described.append(entry)
        return tensors, json.dumps(described)

    def load_state_dict(
        self, tensors: Mapping[str, Tensor], layout: str, folder: Path | None = None
    ) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            CheckpointError: a file of rows is missing or was cut off.
        """
        for key in self.known_keys():
            self.drop(key)
        for number, entry in enumerate(json.loads(layout)):
            key = StateKey(*entry["key"])
            entries = tuple((name, tuple(shape)) for name, shape in entry["layout"])
            self._layouts[key] = Layout(entries)
            # What was in memory is in memory again, so that a resumed run computes the same way.
            size = entry.get("reserved", 0)
            self.storage.used += size or 0
            self._reserved[key] = size
            self._rows[key] = self._loaded(key, entry, tensors, number, folder)

    def _loaded(
        self,
        key: StateKey,
        entry: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        number: int,
        folder: Path | None,
    ) -> Rows:
        """Return the rows of a key as a checkpoint's entry describes them."""
        values, saved = self._layouts[key].values, entry.get("saved")
        in_memory = self._reserved[key] is not None
        if saved is not None:
            assert folder is not None
            found = DiskRows.load(values, self.storage, folder, saved)
            return MemoryRows.loaded(found, self.storage) if in_memory else found
        clients = entry["clients"]
        room = MemoryRows(values, self.storage, len(clients) if in_memory else 0)
        rows: Rows = room if in_memory else DiskRows(values, self.storage)
        places = {name: place for place, name in enumerate(self.roster)}
        for index in sorted(range(len(clients)), key=lambda at: places.get(clients[at], -1)):
            rows.put(clients[index], [tensors[f"{number}/{index}"]])
        return rows
