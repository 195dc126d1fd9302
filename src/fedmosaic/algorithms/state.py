"""Hold the server's memory as matrices: for each kind of tensors one matrix [clients, values].

Aggregation is then one product (W @ L) and similarity another; nothing loops over layers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedmosaic.errors import UpdateError


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


@dataclass(frozen=True)
class Layout:
    """Turn named tensors into one row of numbers, and back.

    Attributes:
        entries: name and shape of each tensor, in order of names.
    """

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Layout:
        """Return the layout of these tensors."""
        return cls(tuple((name, tuple(tensors[name].shape)) for name in sorted(tensors)))

    def flatten(self, tensors: Mapping[str, Tensor], whose: str) -> Tensor:
        """Return the tensors as one float32 row in main memory.

        Args:
            tensors: by name.
            whose: says in an error whose tensors they are.

        Raises:
            UpdateError: their names or shapes are not those of the layout.
        """
        found = Layout.of(tensors)
        if found != self:
            pairs = zip(self.entries, found.entries, strict=False)
            differing = next((f"{a} / {b}" for a, b in pairs if a != b), "other names")
            raise UpdateError(f"{whose}: its tensors do not fit those of the others: {differing}")
        if not self.entries:
            return torch.empty(0)
        parts = [tensors[name].detach().reshape(-1).float().cpu() for name, _ in self.entries]
        return torch.cat(parts)

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """Return the named tensors of a row; the inverse of :meth:`flatten`."""
        parts = row.split([math.prod(shape) for _, shape in self.entries])
        return {
            name: part.reshape(shape)
            for (name, shape), part in zip(self.entries, parts, strict=True)
        }


class ServerState:
    """Keep what the server remembers between rounds: a row of values for each key and client.

    A row may also belong to no client, such as an average; it is put and read without a client.

    Args:
        roster: names of all clients; matrices have their rows in this order.
    """

    def __init__(self, roster: Sequence[str]) -> None:
        self.roster = list(roster)
        self._rows: dict[StateKey, dict[str | None, Tensor]] = {}
        self._layouts: dict[StateKey, Layout] = {}

    def put(self, key: StateKey, tensors: Mapping[str, Tensor], client: str | None = None) -> None:
        """Store the tensors of a client under a key in place of earlier ones.

        Args:
            key: names the matrix.
            tensors: of the same names and shapes for all clients; stored as float32.
            client: whose they are; None where they are no client's.

        Raises:
            UpdateError: names or shapes differ from those already there under the key.
        """
        layout = self._layouts.setdefault(key, Layout.of(tensors))
        whose = f"{key.kind} of client {client!r}" if client else key.kind
        self._rows.setdefault(key, {})[client] = layout.flatten(tensors, whose)

    def put_matrix(
        self, key: StateKey, like: StateKey, clients: Sequence[str], matrix: Tensor
    ) -> None:
        """Store one row for each client in place of all earlier rows of the key.

        Args:
            key: names the matrix.
            like: the key whose layout the columns have.
            clients: the clients of the rows, in order.
            matrix: float32 [clients, values].
        """
        self._layouts[key] = self._layouts[like]
        self._rows[key] = dict(zip(clients, matrix, strict=True))

    def clients(self, key: StateKey) -> list[str]:
        """Return the clients that have a row under the key, in roster order."""
        rows = self._rows.get(key, {})
        return [name for name in self.roster if name in rows]

    def matrix(self, key: StateKey) -> Tensor:
        """Return the clients' rows in roster order, float32 [clients that have one, values]."""
        rows = self._rows[key]
        return torch.stack([rows[name] for name in self.clients(key)])

    def get(self, key: StateKey, client: str | None = None) -> dict[str, Tensor]:
        """Return a client's row as named tensors; empty if it has none.

        Args:
            key: names the matrix.
            client: whose row; None for the one that is no client's.
        """
        row = self._rows.get(key, {}).get(client)
        return {} if row is None else self._layouts[key].split(row)

    def known_keys(self) -> list[StateKey]:
        """Return the keys under which something is stored, in the order of their first use."""
        return list(self._rows)

    def state_dict(self) -> tuple[dict[str, Tensor], str]:
        """Return tensors by name and a JSON text of keys and layouts, for a checkpoint."""
        tensors = {}
        described = []
        for number, key in enumerate(sorted(self._rows, key=json.dumps)):
            clients = sorted(self._rows[key], key=json.dumps)
            layout = self._layouts[key].entries
            described.append({"key": list(key), "clients": clients, "layout": layout})
            for index, client in enumerate(clients):
                tensors[f"{number}/{index}"] = self._rows[key][client]
        return tensors, json.dumps(described)

    def load_state_dict(self, tensors: Mapping[str, Tensor], layout: str) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._rows, self._layouts = {}, {}
        for number, entry in enumerate(json.loads(layout)):
            key = StateKey(*entry["key"])
            entries = tuple((name, tuple(shape)) for name, shape in entry["layout"])
            self._layouts[key] = Layout(entries)
            self._rows[key] = {
                client: tensors[f"{number}/{index}"]
                for index, client in enumerate(entry["clients"])
            }
