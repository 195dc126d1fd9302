"""Stand before the SuperLink: only its Fleet API is reachable from outside, by known keys.

Flower serves three APIs at one port. Whoever reaches its Control API can run code on the server. So
this part of the SuperLink's process listens at two ports: an inner one on loopback with everything,
for Flower's own processes of the same user, and an outer one with the Fleet API alone. There a
request is refused before it is read if its key is unknown, its content too long, or if the key's
client asks too often.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from fedmosaic.engines.flower.rate import RateLimit

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HELLO = "/v1/fedmosaic/hello"
FLEET = "/v1/fleet/"
OWNER_ONLY = ("/v1/control/", "/v1/runtime/acquire-task")  # of the inner port
KEY_HEADER = b"flwr-public-key"
# Flower cuts arrays into pieces of 5 MiB; a request with one piece is little longer.
LARGEST_REQUEST = 16 * 2**20
OVERHEAD = 2**20  # what a message may take beside its payload


class Front:
    """Filter what reaches the SuperLink.

    Args:
        app: the SuperLink.
        inner_port: where Flower's own processes connect.
        keys_file: registered public keys (PEM), each with its client's name, as JSON; None without
            authentication. It is read when it changes.
        max_bytes: largest payload of an answer.
    """

    def __init__(self, app: App, inner_port: int, keys_file: Path | None, max_bytes: int) -> None:
        self.app = app
        self.inner_port = inner_port
        self.keys_file = keys_file
        self.max_bytes = max_bytes
        self._names: dict[str, str] = {}
        self._changed = -1.0
        self._seen: dict[str, float] = {}
        self._taken: dict[str, int] = {}
        self._rate = RateLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["server"][1] == self.inner_port:
            await self._inner(scope, receive, send)
        else:
            await self._outer(scope, receive, send)

    async def _inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(OWNER_ONLY) and not same_user(scope["client"], scope["server"]):
            await _answer(send, 403, "only processes of the user who runs the server may do this")
        else:
            await self.app(scope, receive, send)

    async def _outer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], dict(scope["headers"])
        key = _decoded(headers.get(KEY_HEADER, b""))
        if path == HELLO:
            await _answer(send, 200, self._hello(key))
        elif not path.startswith(FLEET):
            await _answer(send, 404, "there is nothing here but the Fleet API")
        elif not self._registered(key):
            await _answer(send, 403, "this key is not registered with the server")
        elif not self._rate.allows(key):
            await _answer(send, 429, "too many requests with this key; try again in a second")
        elif reason := self._too_long(path, key, headers):
            await _answer(send, 413, reason)
        else:
            await self.app(scope, _limited(receive), self._noting(key, send))

    def _hello(self, key: str) -> dict[str, object]:
        seen = self._seen.get(key)
        return {
            "fedmosaic": 1,
            "time": time.time(),
            "registered": self._registered(key),
            "authentication": self.keys_file is not None,
            "seen": None if seen is None else time.monotonic() - seen,
            "max_bytes": self.max_bytes,
        }

    def _registered(self, key: str) -> bool:
        if self.keys_file is None:
            return True
        changed = self.keys_file.stat().st_mtime
        if changed != self._changed:
            self._names, self._changed = json.loads(self.keys_file.read_text()), changed
        return key in self._names

    def _too_long(self, path: str, key: str, headers: dict[bytes, bytes]) -> str:
        """Return why a request is too long, and count what a node sends for one answer."""
        try:
            length = int(headers.get(b"content-length", b"-1"))
        except ValueError:
            length = -1
        if not 0 <= length <= LARGEST_REQUEST:
            return f"a request of {length} bytes; at most {LARGEST_REQUEST} are taken"
        if path == FLEET + "push-messages":
            self._taken[key] = 0
        taken = self._taken.get(key, 0) + length
        if path == FLEET + "push-object":
            self._taken[key] = taken
        if taken > self.max_bytes + OVERHEAD:
            return f"an answer of over {self.max_bytes} bytes, which is the server's limit"
        return ""

    def _noting(self, key: str, send: Send) -> Send:
        """Note when a node was there; only Flower knows whether its signature is right."""

        async def noting(event: Event) -> None:
            if event["type"] == "http.response.start" and event["status"] < 400:
                self._seen[key] = time.monotonic()
            await send(event)

        return noting


def _limited(receive: Receive) -> Receive:
    """Stop to read a request that is longer than it may be, whatever its header says."""
    taken = 0

    async def limited() -> Event:
        nonlocal taken
        event = await receive()
        taken += len(event.get("body", b""))
        return event if taken <= LARGEST_REQUEST else {"type": "http.disconnect"}

    return limited


def _decoded(header: bytes) -> str:
    try:
        return base64.b64decode(header, validate=True).decode("ascii")
    except ValueError:
        return ""


async def _answer(send: Send, status: int, content: str | dict[str, object]) -> None:
    found = content if isinstance(content, dict) else {"refused": content}
    body = json.dumps(found).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status >= 400:
        headers.append((b"connection", b"close"))  # so that the rest of a request is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def same_user(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Return whether a connection over loopback comes from a process of this user, or root.

    Linux lists the owner of each connection. Elsewhere this is not known, and the answer is yes.
    """
    table = Path("/proc/net/tcp")
    if not table.is_file():
        return True
    ends = f":{client[1]:04X}", f":{server[1]:04X}"
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
            return int(fields[7]) in (os.getuid(), 0)
    return False
