"""Reach nodes through Flower's grid, in the process of a ``ServerApp``."""

from __future__ import annotations

import queue
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmosaic.distributed.link import Delivery
from fedmosaic.engines.flower.records import from_record, to_record
from fedmosaic.errors import LinkError, UpdateError

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

POLL_SECONDS = 0.05
# A request is asked for after this share of the time that it has waited, within these limits.
SHARE_OF_WAIT, FASTEST, SLOWEST = 0.1, 0.05, 1.0
# Flower drops a message when its time is over, and then fails where it is asked for it.
MARGIN_SECONDS = 120.0
MOST_POLLS = 32


class GridLink:
    """Carry requests over a grid; it is used by one thread.

    Args:
        grid: the grid of the ``ServerApp``.
        message_type: type of the messages, which decides the function of a ``ClientApp``.
        concurrent: whether one answer that arrives slowly must not hold up the others. The grid
            must then allow several threads, as that of a deployment does.
        slowest: the longest time between two looks for an answer.
    """

    def __init__(
        self,
        grid: Grid,
        message_type: str = "query",
        concurrent: bool = False,
        slowest: float = SLOWEST,
    ) -> None:
        self.grid = grid
        self.message_type = message_type
        self.slowest = slowest
        self._waiting: dict[str, _Waiting] = {}
        self._ready: queue.Queue[Delivery] = queue.Queue()
        self._pool = ThreadPoolExecutor(MOST_POLLS) if concurrent else None

    def nodes(self) -> set[str]:
        return {str(node) for node in self.grid.get_node_ids()}

    def send(self, node: str, payload: bytes, time_limit: float) -> str:
        from flwr.app import Message

        life = time_limit + MARGIN_SECONDS
        message = Message(to_record(payload), int(node), self.message_type, ttl=life)
        found = list(self.grid.push_messages([message]))
        if not found or not found[0]:
            raise LinkError(f"Flower did not take a request for node {node}, which may be gone")
        sent = time.monotonic()
        self._waiting[found[0]] = _Waiting(node, sent, time_limit, sent)
        return str(found[0])

    def receive(self, timeout: float) -> list[Delivery]:
        end = time.monotonic() + timeout
        while True:
            self._poll()
            found = []
            while not self._ready.empty():
                found.append(self._ready.get())
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(POLL_SECONDS, left))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _poll(self) -> None:
        """Ask the grid for the answers that it is time to ask for."""
        for request, waiting in list(self._waiting.items()):
            now = time.monotonic()
            if waiting.poll is not None and not waiting.poll.done():
                continue
            if now > waiting.sent + waiting.limit:
                error = f"no answer within {waiting.limit:g} s"
                self._answered(Delivery(waiting.node, request, error=error))
            elif now >= waiting.next_poll:
                pause = SHARE_OF_WAIT * (now - waiting.sent)
                waiting.next_poll = now + min(max(pause, FASTEST), self.slowest)
                if self._pool is None:
                    self._fetch(request, waiting.node)
                else:
                    waiting.poll = self._pool.submit(self._fetch, request, waiting.node)

    def _fetch(self, request: str, node: str) -> None:
        """Ask for one answer. Several in one call would wait for the slowest of them."""
        try:
            for message in self.grid.pull_messages([request]):
                if message.metadata.reply_to_message_id == request:
                    self._answered(_delivery(node, request, message))
        except Exception as error:  # whatever Flower fails with, the request is lost
            self._answered(Delivery(node, request, error=f"{type(error).__name__}: {error}"))

    def _answered(self, delivery: Delivery) -> None:
        if self._waiting.pop(delivery.request, None) is not None:
            self._ready.put(delivery)


@dataclass
class _Waiting:
    """Hold what is known of a request; times are those of ``time.monotonic``."""

    node: str
    sent: float
    limit: float
    next_poll: float
    poll: Future[None] | None = None


def _delivery(node: str, request: str, message: Message) -> Delivery:
    if message.has_error():
        return Delivery(node, request, error=message.error.reason or str(message.error.code))
    try:
        return Delivery(node, request, from_record(message.content))
    except UpdateError as error:
        return Delivery(node, request, error=str(error))
