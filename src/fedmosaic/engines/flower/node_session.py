"""Connect a node and serve requests, as long as the connection lasts."""

from __future__ import annotations

import contextlib
import math
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from fedmosaic.distributed.keys import create_private_key, private_key
from fedmosaic.engines.flower.connecting import public_bytes
from fedmosaic.engines.flower.fleet import (
    LONGEST_PIECE_TIME_LIMIT,
    PIECE_TIME_LIMIT,
    Fleet,
    Request,
)
from fedmosaic.engines.flower.greeting import Greeting, greet
from fedmosaic.engines.flower.node import Parent
from fedmosaic.engines.flower.unanswered import Unanswered
from fedmosaic.errors import LinkError, SiteError, UpdateError

BEAT_SECONDS = 5.0
# Requests are asked for this often after there was one, and less and less often when idle.
FASTEST, SLOWEST, IDLE_SHARE = 0.1, 0.5, 0.05
# Another process with this key gives signs of life at least this often.
SIGN_SECONDS = 2 * SLOWEST + 1.5


class Node:
    """Hold the state of a node over all its connections.

    Args:
        settings: ``server``, ``ca`` and ``key`` (files; None for plain text), ``folder``.
        parent: who answers the requests.
    """

    def __init__(self, settings: dict[str, Any], parent: Parent) -> None:
        self.server = settings["server"]
        self.ca: str | None = settings["ca"]
        self.parent = parent
        self.context = ssl.create_default_context(cafile=self.ca) if self.ca else None
        self.unanswered = Unanswered(Path(settings["folder"]))
        self.key = private_key(Path(settings["key"]) if settings["key"] else self._own_key())
        self.fleet: Fleet | None = None
        self.greeting = Greeting(None, 0.0, 0)
        self._piece_time_limit = PIECE_TIME_LIMIT
        self._handed: dict[str, Request] = {}  # given to the parent, and not yet answered
        self._reply: tuple[str, Any] | None = None
        self._last_sign = -math.inf  # when the server last had a sign of this process

    def connect(self) -> None:
        """Connect, as the same node if the server still knows it.

        Raises:
            LinkError: the server cannot be reached now.
            SiteError: it refuses this node, and would do so another time.
        """
        self._disconnect()
        self.greeting = greet(self.server, self.context, public_bytes(self.key), self.ca or "")
        clock, limit = self.greeting.clock, self._piece_time_limit
        fleet = Fleet(self.server, self.context, self.key, clock, limit)
        known = self.unanswered.node(self.server)
        try:
            self._refuse_second_process()
            if not known or not fleet.resume(known):
                fleet.activate(register=self.context is None)
                self._begin(fleet)
        except httpx.HTTPError as error:
            fleet.close()
            raise LinkError(f"{self.server} did not take this node: {_reason(error)}") from error
        self.fleet = fleet
        self.parent.write(
            {
                "event": "connected",
                "node": str(fleet.node),
                "clock": self.greeting.clock,
                "max_bytes": self.greeting.max_bytes,
            }
        )
        self._hand_over_stored()

    def _begin(self, fleet: Fleet) -> None:
        """Note that this is another node for the server, which knows of no earlier requests."""
        self._handed.clear()
        self._reply = None
        try:
            self.unanswered.begin(self.server, fleet.node)
        except OSError as error:
            self._warn(f"the node's id is not stored ({error.strerror}): a crash costs a minute")

    def serve(self) -> None:
        """Carry requests and answers until the parent wants to stop.

        Raises:
            LinkError: the connection is lost.
        """
        fleet, ended = self._connected(), threading.Event()
        beats = threading.Thread(target=self._beat, args=(fleet, ended), daemon=True)
        beats.start()
        last = time.monotonic()
        try:
            while True:
                self._send_answers(fleet)
                if self.parent.stopping and self.parent.next_answer() is None:
                    fleet.leave()
                    return
                request = fleet.poll()
                self._last_sign = time.monotonic()
                if request is not None:
                    self._take(fleet, request)
                    last = time.monotonic()
                    continue
                idle = IDLE_SHARE * (time.monotonic() - last)
                if self.parent.changed.wait(min(max(idle, FASTEST), SLOWEST)):
                    self.parent.changed.clear()
                    last = time.monotonic()
                if ended.is_set():
                    raise LinkError(f"{self.server} no longer knows this node")
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        finally:
            ended.set()

    def _take(self, fleet: Fleet, request: Request) -> None:
        """Store a request, fetch its content, and hand it over."""
        self._store(request, None)
        self._fetch(fleet, request)

    def _fetch(self, fleet: Fleet, request: Request) -> None:
        try:
            payload = fleet.fetch(request, self.greeting.max_bytes)
        except UpdateError as error:
            self._fail(fleet, request, str(error))
            return
        is_stored = self._store(request, payload)
        self._hand_over(request, payload)  # first: the connection may end just now
        if is_stored:
            fleet.confirm(request)

    def _hand_over(self, request: Request, payload: bytes) -> None:
        self._handed[request.id] = request
        self.parent.write({"request": request.id}, payload)

    def _hand_over_stored(self) -> None:
        """Hand over what an earlier process has taken; the parent knows what it has seen."""
        for raw, payload in self.unanswered.all():
            request = Request.read(raw)
            if request is None or request.id in self._handed:
                continue
            if payload is None:
                try:
                    self._fetch(self._connected(), request)
                except httpx.HTTPError as error:
                    raise self._lost(error) from error
            else:
                self._hand_over(request, payload)

    def _store(self, request: Request, payload: bytes | None) -> bool:
        try:
            self.unanswered.add(request.id, request.raw, payload)
        except OSError as error:
            self._warn(f"a request is not stored ({error.strerror}): a crash would lose it")
            return False
        return True

    def _send_answers(self, fleet: Fleet) -> None:
        while (answer := self.parent.next_answer()) is not None:
            name, payload, error = answer
            request = self._handed.get(name)
            if request is not None:  # else the server it came from has gone
                if len(payload) > self.greeting.max_bytes:
                    limit = self.greeting.max_bytes
                    payload, error = b"", f"an answer of over {limit} bytes, the server's limit"
                self._push(fleet, request, payload, error)
                self._handed.pop(name, None)
            self.unanswered.remove(name)
            self.parent.remove_answer()

    def _push(self, fleet: Fleet, request: Request, payload: bytes, error: str) -> None:
        """Send an answer; one that was begun over a lost connection is the same reply."""
        if self._reply is None or self._reply[0] != request.id:
            self._reply = request.id, fleet.reply(request, payload, error)
        try:
            fleet.push(self._reply[1])
        except UpdateError as fault:
            self._warn(f"an answer was not sent: {fault}")
        except httpx.HTTPStatusError as fault:
            status = fault.response.status_code
            if status in (401, 403, 502, 503, 504):
                raise
            if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE and not error:
                self._fail(fleet, request, _reason(fault))
            self._warn(f"an answer was refused: {_reason(fault)}")
        self._reply = None

    def _fail(self, fleet: Fleet, request: Request, error: str) -> None:
        """Answer a request with an error, if the server still waits for it."""
        with contextlib.suppress(UpdateError):
            fleet.push(fleet.reply(request, b"", error))
        self.unanswered.remove(request.id)

    def _beat(self, fleet: Fleet, ended: threading.Event) -> None:
        """Give signs of life, also while a long answer is being sent."""
        while not ended.wait(BEAT_SECONDS):
            try:
                if not fleet.beat():
                    ended.set()
                    self.parent.changed.set()
            except httpx.HTTPError:
                pass  # the thread that polls sees it too

    def _lost(self, error: httpx.HTTPError) -> LinkError:
        if isinstance(error, httpx.TimeoutException):
            longer = 2 * self._piece_time_limit
            self._piece_time_limit = min(longer, LONGEST_PIECE_TIME_LIMIT)
        return LinkError(f"lost the connection to {self.server}: {_reason(error)}")

    def _refuse_second_process(self) -> None:
        """Check that no other process uses this key.

        Raises:
            SiteError: one does.
        """
        seen, own = self.greeting.seen, time.monotonic() - self._last_sign
        if seen is None or seen > min(SIGN_SECONDS, own - 1.0):
            return  # the last sign of this key was long ago, or this process's own
        time.sleep(SIGN_SECONDS)
        later = greet(self.server, self.context, public_bytes(self.key), self.ca or "").seen
        if later is not None and later < SIGN_SECONDS:
            raise SiteError(
                f"another process is connected to {self.server} with this client's key: stop it, "
                "or ask the server's owner for a key of its own"
            )

    def _warn(self, line: str) -> None:
        self.parent.write({"event": "warning", "reason": line})

    def _own_key(self) -> Path:
        """Return the key of a node without authentication, by which it is known on its return."""
        path = self.unanswered.folder / "node.key"
        if not path.exists():
            create_private_key(path)
        return path

    def _connected(self) -> Fleet:
        assert self.fleet is not None
        return self.fleet

    def _disconnect(self) -> None:
        if self.fleet is not None:
            self.fleet.close()
            self.fleet = None


def _reason(error: httpx.HTTPError) -> str:
    """Return what went wrong, in the server's words if it has some."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if not isinstance(error, httpx.HTTPStatusError):
        return str(error) or type(error).__name__
    if error.response.status_code == httpx.codes.PRECONDITION_FAILED:
        return "it is starting, or still counts this client as connected"
    try:
        words = error.response.json()["refused"]
    except (ValueError, KeyError, TypeError):
        words = f"status {error.response.status_code}"
    return str(words)
