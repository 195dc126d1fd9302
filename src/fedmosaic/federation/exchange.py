"""Make a round's downloads one by one, and check and keep the updates that come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmosaic.algorithms import Message
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.storage import Storage
from fedmosaic.config import DefenceSettings
from fedmosaic.errors import UpdateError
from fedmosaic.evaluation import Record
from fedmosaic.federation.defences import Judgement, judge
from fedmosaic.federation.instructions import ClientResult
from fedmosaic.federation.wire import Schema, check, pack, unpack

Take = Callable[[Member, Message], Message]


class Downloads(Mapping[str, bytes]):
    """Make each download when the transport asks for it; none is held.

    Args:
        make: returns the packed download of a client; may be called from several threads, one at
            a time.
        names: the clients.
        counting: counts operations while a download is made.

    Attributes:
        sizes: bytes of the downloads made so far, by client.
        seconds: wall time that making them took.
    """

    def __init__(
        self,
        make: Callable[[str], bytes],
        names: Mapping[str, Any],
        counting: AbstractContextManager[Any],
    ) -> None:
        self._make, self._names, self._counting = make, names, counting
        self._lock = threading.Lock()
        self.sizes: dict[str, int] = {}
        self.seconds = 0.0

    def __getitem__(self, name: str) -> bytes:
        with self._lock, self._counting:
            started = time.perf_counter()
            made = self._make(name)
            self.sizes[name] = len(made)
            self.seconds += time.perf_counter() - started
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Updates(Mapping[str, Message]):
    """Hold the accepted updates of a round: in memory up to the limit, beyond it in files.

    Args:
        storage: says what still fits, and where files go.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._held: dict[str, Message] = {}
        self._files: dict[str, Path] = {}
        self._reserved: dict[str, int] = {}

    def add(self, name: str, message: Message, payload: bytes) -> None:
        """Keep a client's update, whose tensors may be views of ``payload``."""
        if message.tensors and not self._storage.reserve(len(payload)):
            path = self._storage.new_file("update")
            path.write_bytes(payload)
            self._files[name] = path
            return
        self._reserved[name] = len(payload) if message.tensors else 0
        self._held[name] = message

    def empty_copy(self) -> Updates:
        """Return a place for other updates in the same storage."""
        return Updates(self._storage)

    def pop(self, name: str) -> Message:
        """Return a client's update and hold it no more."""
        message = self[name]
        if path := self._files.pop(name, None):
            path.unlink(missing_ok=True)
        self._storage.release(self._reserved.pop(name, 0))
        self._held.pop(name, None)
        return message

    def clear(self) -> None:
        """Forget all updates."""
        for path in self._files.values():
            path.unlink(missing_ok=True)
        self._storage.release(sum(self._reserved.values()))
        self._held, self._files, self._reserved = {}, {}, {}

    def __getitem__(self, name: str) -> Message:
        if name in self._files:
            return unpack(self._files[name].read_bytes(), share=True)
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._held
        yield from self._files

    def __len__(self) -> int:
        return len(self._held) + len(self._files)


@dataclass
class Results:
    """Collect what the clients of a round return.

    Attributes:
        updates: the accepted updates, by client; until :meth:`finish`, with defences that compare
            updates, those that may still be refused.
        take: hands an accepted update to the algorithm and returns what ``aggregate`` needs of it.
        defences: limits on what one update may differ from the others.
        judgement: what became of the updates by these limits; None where there are none.
        refused: why a client has no accepted update, by client.
        records: evaluation scores.
        lines: one line of the metrics file for each client.
        seconds: wall time of checking and taking the updates.
    """

    updates: Updates
    take: Take
    defences: DefenceSettings = field(default_factory=DefenceSettings)
    judgement: Judgement | None = None
    refused: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, member: Member, result: ClientResult, schema: Schema) -> None:
        """Accept a client's result, or note why its update is refused."""
        started, name = time.perf_counter(), member.name
        self.records += result.records
        if result.update is not None:
            try:
                message = unpack(result.update, share=True)
                check(message, schema)
                taken = message if self.defences.compares else self.take(member, message)
                self.updates.add(name, taken, result.update)
            except UpdateError as error:
                self.refused[name] = f"update of client {name!r} refused: {error}"
        elif result.failure:
            self.refused[name] = f"client {name!r} has no update: {result.failure}"
        self.seconds += time.perf_counter() - started

    def finish(self, members: Mapping[str, Member]) -> None:
        """Compare the updates of the round where that is wanted, and hand on what is accepted.

        Args:
            members: all clients by name, in roster order.
        """
        if not self.defences.compares:
            return
        started = time.perf_counter()
        self.judgement = judge(self.defences, self.updates)
        held, self.updates = self.updates, self.updates.empty_copy()
        for name, member in members.items():
            if name not in held:
                continue
            message = self.judgement.applied(name, held.pop(name))
            if reason := self.judgement.refused.get(name):
                self.refused[name] = reason
                continue
            try:
                taken = self.take(member, message)
            except UpdateError as error:
                self.refused[name] = f"update of client {name!r} refused: {error}"
            else:
                self.updates.add(name, taken, pack(taken) if taken.tensors else b"")
        self.seconds += time.perf_counter() - started

    def traffic(self) -> dict[str, int]:
        """Return the bytes that all clients sent and received."""
        return {way: sum(line["bytes"][way] for line in self.lines) for way in ("up", "down")}
