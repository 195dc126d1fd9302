"""Hold what a site has in memory of the run that it takes part in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.algorithms import Message
from fedmosaic.algorithms.message import sent_in_round
from fedmosaic.config import ClientSpec
from fedmosaic.distributed.messages import digest
from fedmosaic.distributed.site_folder import SessionFolder
from fedmosaic.errors import SiteError
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.data_record import DataRecord, task_set
from fedmosaic.federation.introduce import begin, introduction
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.wire import Expected, pack, unpack

UNPREPARED = "unprepared"
LOST = "lost"
CHANGED = "changed"
FAILED = "failed"
"""Reasons of errors: prepare first; its state is gone; it has other data or another model now;
anything else. The server knows the first two."""


class SiteRefusal(SiteError):
    """Tell the server why a request cannot be done, by a reason that it knows."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


def data_of(runtime: Runtime, spec: ClientSpec) -> str:
    """Return a hash of the data that a client works with.

    It covers the content of files, and the names of tasks that are made on access.
    """
    record = DataRecord.of(runtime)
    made = [task.name for task in spec.tasks if task_set(task.name) not in record.sets]
    return digest(record.id, *made) if made else record.id


class SiteRun:
    """Hold runtime and client of one run.

    Attributes:
        place: the run's folder at the site.
        prepared: what the site has said of its updates.
        schema: what the updates contain.
    """

    def __init__(
        self,
        place: SessionFolder,
        runtime: Runtime,
        spec: ClientSpec,
        prepared: Mapping[str, Any],
    ) -> None:
        self.place, self.runtime, self.spec = place, runtime, spec
        self.prepared = dict(prepared)
        self.schema = {
            name: Expected(kind, tuple(shape))
            for name, (kind, shape) in prepared["tensors"].items()
        }
        self.shares_all = not set(introduction(runtime, spec).schema) - set(self.schema)
        self._client: LocalClient | None = None
        self._working: LocalClient | None = None
        self._at: int | None = None

    def client_before(self, number: int, after: int | None) -> LocalClient:
        """Return the client with its state before a round.

        Args:
            number: the round.
            after: the last round whose update the server has; None: none.

        Raises:
            SiteRefusal: the site has lost the state of that round.
        """
        found = self.place.state_before(number)
        at = found.round if found else None
        if after is not None and (at is None or at < after):
            raise SiteRefusal(
                f"client {self.spec.name!r} took part in round {after + 1}, and its folder "
                f"{self.place.path.parent} has no state of it",
                LOST,
            )
        if self._client is None or at != self._at:
            self._client = LocalClient(self.runtime, self.spec)
            if found is None:
                begin(self._client)
            else:
                self._client.load(found.path)
            self._at = at
        # Until the turn is on disk no client is held: an error in it leaves no half state.
        self._working, self._client = self._client, None
        return self._working

    def announced(self, update: bytes | None) -> bytes | None:
        """Return an update without the tensors that this site does not send."""
        if update is None:
            return None
        message = unpack(update, share=True)
        if set(message.tensors) <= set(self.schema):
            return update
        sent = {name: value for name, value in message.tensors.items() if name in self.schema}
        return pack(Message(sent, message.scalars))

    def completed(self, client: LocalClient, download: bytes) -> bytes:
        """Return a download with the tensors that the server has none of: this site sends none.

        A client that sends no LoRA is the only one of its architecture at the server. Such a client
        receives its own tensors, which it has itself.
        """
        message = unpack(download)
        if self.shares_all or not message.tensors or self._at is None:
            return download
        with client.turn(trains=False) as context:
            own = client.algorithm.upload(context)
        missing = {name: v for name, v in own.tensors.items() if name not in self.schema}
        return pack(Message({**missing, **message.tensors}, message.scalars))

    def schema_in(self, number: int) -> dict[str, Expected]:
        """Return what the update of a round contains."""
        return sent_in_round(self.schema, self.runtime.algorithm.alternates, number)

    def taken(self, number: int, trained: bool) -> None:
        """Note that the turn of a round is on disk."""
        self._client, self._working = self._working, None
        if trained:
            self._at = number
