"""Hold rows of float32 values by client: in memory up to a limit, beyond it in files.

A file of rows is called a segment: raw float32, one row after the other. Once a checkpoint has a
hard link to a segment, nothing writes to it again; changed rows go to a new one. So a checkpoint
takes the time and space of the rows that changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmosaic.algorithms.storage import FLOAT, Segment, Storage
from fedmosaic.files import link

# Matrices with fewer bytes are always written as a whole: not worth files of their own.
SMALL = 1 << 20
Client = str | None


class DiskRows:
    """Hold rows in segments.

    Args:
        values: length of a row.
        storage: makes the files.
    """

    def __init__(self, values: int, storage: Storage) -> None:
        self.values, self._storage = values, storage
        self._at: dict[Client, tuple[Segment, int]] = {}
        self._segments: dict[Segment, int] = {}  # with the number of rows in use
        self._open: Segment | None = None

    def clients(self) -> Sequence[Client]:
        """Return the clients that have a row."""
        return list(self._at)

    def has(self, client: Client) -> bool:
        """Return whether the client has a row."""
        return client in self._at

    def put(self, client: Client, parts: Sequence[Tensor]) -> None:
        """Store a row, given in parts, in place of an earlier one."""
        self.write([client], 0, torch.cat(list(parts)).unsqueeze(0))

    def write(self, clients: Sequence[Client], start: int, values: Tensor) -> None:
        """Write columns from ``start`` on of several clients' rows, [clients, c].

        A row that a checkpoint has must be written as a whole.
        """
        for client, row in zip(clients, values, strict=True):
            segment, index = self._place(client)
            segment.write(index, start, row)

    def read(self, clients: Sequence[Client], start: int = 0, stop: int | None = None) -> Tensor:
        """Return columns of the clients' rows, [clients, stop - start]."""
        width = (self.values if stop is None else stop) - start
        result = torch.empty(len(clients), width)
        for client, row in zip(clients, result.numpy(), strict=True):
            segment, index = self._at[client]
            segment.read(index, start, row)
        return result

    def row(self, client: Client) -> Tensor:
        """Return a client's row, [values]."""
        return self.read([client])[0]

    stored = row

    def delete(self) -> None:
        """Remove the files; links to them in checkpoints stay."""
        for segment in self._segments:
            segment.delete()
        self._at, self._segments, self._open = {}, {}, None

    def _place(self, client: Client) -> tuple[Segment, int]:
        """Return where a client's row may be written; its place in a sealed segment is given up."""
        found = self._at.get(client)
        if found is not None and found[0] is self._open:
            return found
        if self._open is None:
            self._open = Segment(self._storage.new_file("rows"), self.values)
            self._segments[self._open] = 0
        if found is not None:
            self._drop(found[0])
        self._at[client] = self._open, self._open.count
        self._open.count += 1
        self._segments[self._open] += 1
        return self._at[client]

    def _drop(self, segment: Segment) -> None:
        self._segments[segment] -= 1
        if not self._segments[segment]:
            del self._segments[segment]
            segment.delete()

    # --- checkpoints --------------------------------------------------------------------------
    def save(self, folder: Path, prefix: str) -> dict[str, Any]:
        """Link all segments into a folder.

        Args:
            folder: the folder.
            prefix: the first part of their names there.

        Returns:
            The segments' names and numbers of rows, and for each client its row in them.
        """
        self._open = None  # from now on it belongs to the checkpoint
        if sum(segment.count for segment in self._segments) > 2 * len(self._at):
            for client in list(self._at):  # without the rows that nothing uses
                self.write([client], 0, self.read([client]))
            self._open = None
        folder.mkdir(parents=True, exist_ok=True)
        numbers = {segment: number for number, segment in enumerate(self._segments)}
        for segment, number in numbers.items():
            link(segment.path, folder / f"{prefix}-{number}")
        return {
            "segments": [[f"{prefix}-{k}", segment.count] for segment, k in numbers.items()],
            "rows": [[client, numbers[at[0]], at[1]] for client, at in self._at.items()],
        }

    @classmethod
    def load(
        cls, values: int, storage: Storage, folder: Path, found: Mapping[str, Any]
    ) -> DiskRows:
        """Return the rows that :meth:`save` linked into a folder.

        Raises:
            CheckpointError: a segment is missing or was cut off.
        """
        rows = cls(values, storage)
        segments = []
        for name, count in found["segments"]:
            Segment(folder / name, values, count)  # names the file of the checkpoint in its errors
            path = storage.new_file("rows")
            link(folder / name, path)
            segments.append(Segment(path, values, count))
        rows._segments = dict.fromkeys(segments, 0)
        for client, number, index in found["rows"]:
            rows._at[client] = segments[number], index
            rows._segments[segments[number]] += 1
        return rows


class MemoryRows:
    """Hold rows in one matrix in memory.

    Args:
        values: length of a row.
        storage: makes the files of checkpoints.
        capacity: number of rows that the matrix has room for at the start.
    """

    def __init__(self, values: int, storage: Storage, capacity: int = 1) -> None:
        self.values, self._storage = values, storage
        self._matrix = torch.empty(max(1, capacity), values)
        self._at: dict[Client, int] = {}
        self._lent = False  # whether others may hold views of the matrix
        self._changed: set[Client] = set()
        self._saved: DiskRows | None = None

    @classmethod
    def of(cls, clients: Sequence[Client], matrix: Tensor, storage: Storage) -> MemoryRows:
        """Return rows that are those of a float32 matrix [clients, values], without a copy."""
        rows = cls(matrix.shape[1], storage, 0)
        rows._matrix, rows._lent = matrix, True
        rows._at = {client: index for index, client in enumerate(clients)}
        rows._changed = set(clients)
        return rows

    def clients(self) -> Sequence[Client]:
        """Return the clients that have a row."""
        return list(self._at)

    def has(self, client: Client) -> bool:
        """Return whether the client has a row."""
        return client in self._at

    def put(self, client: Client, parts: Sequence[Tensor]) -> None:
        """Store a row, given in parts, in place of an earlier one."""
        index = self._at.setdefault(client, len(self._at))
        if index == len(self._matrix) or self._lent:
            larger = torch.empty(max(len(self._matrix), 2 * index), self.values)
            larger[: len(self._matrix)] = self._matrix
            self._matrix, self._lent = larger, False
        torch.cat(list(parts), out=self._matrix[index])
        self._changed.add(client)

    def write(self, clients: Sequence[Client], start: int, values: Tensor) -> None:
        """Write columns from ``start`` on of several clients' rows, [clients, c].

        There must be room for them, and nobody may have been given rows yet.
        """
        at = [self._at.setdefault(client, len(self._at)) for client in clients]
        self._changed.update(clients)
        columns = self._matrix[:, start : start + values.shape[1]]
        if at == list(range(at[0], at[0] + len(at))):
            columns[at[0] : at[0] + len(at)] = values
        else:
            columns[torch.tensor(at)] = values

    def read(self, clients: Sequence[Client], start: int = 0, stop: int | None = None) -> Tensor:
        """Return columns of the clients' rows, [clients, stop - start]; a view where possible."""
        at = [self._at[client] for client in clients]
        columns = self._matrix[:, start:stop]
        if at == list(range(len(at))):
            return columns[: len(at)]
        return columns[torch.tensor(at, dtype=torch.long)]

    def row(self, client: Client) -> Tensor:
        """Return a client's row, [values], which later changes leave as it is."""
        row = self.stored(client)
        return row if self._lent else row.clone()

    def stored(self, client: Client) -> Tensor:
        """Return a client's row itself, [values]."""
        return self._matrix[self._at[client]]

    def delete(self) -> None:
        """Remove the files of checkpoints; links to them stay."""
        if self._saved is not None:
            self._saved.delete()
            self._saved = None

    @classmethod
    def loaded(cls, saved: DiskRows, storage: Storage) -> MemoryRows:
        """Return rows read from segments of a checkpoint, which stay part of the next ones."""
        clients = saved.clients()
        rows = cls.of(clients, saved.read(clients), storage)
        rows._lent, rows._changed, rows._saved = False, set(), saved
        return rows

    # --- checkpoints --------------------------------------------------------------------------
    def save(self, folder: Path, prefix: str) -> dict[str, Any] | None:
        """Write the rows that changed since the last call, as :meth:`DiskRows.save` does.

        Returns:
            Where each row is; None if all have changed or they are few. They are then for the
            caller to write.
        """
        whole = len(self._changed) == len(self._at) or len(self._at) * self.values * FLOAT < SMALL
        if whole:
            self.delete()
        else:
            if self._saved is None:
                self._saved, self._changed = DiskRows(self.values, self._storage), set(self._at)
            for client in sorted(self._changed, key=self._at.__getitem__):
                self._saved.put(client, [self.stored(client)])
        self._changed = set()
        return None if self._saved is None else self._saved.save(folder, prefix)


Rows = MemoryRows | DiskRows
