"""Sign what a node sends, and notice connections whose other end is gone."""

from __future__ import annotations

import base64
import datetime
import socket
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    import httpx

# A connection whose other end is gone is noticed after about this time, also while it is silent.
DEAD_SECONDS = 20


class NodeSignature:
    """Sign each request with the time of the server, whatever this machine's clock says."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, clock: float) -> None:
        self.key = key
        self.clock = clock
        self.public = base64.b64encode(public_bytes(key)).decode()

    def intercept(self, context: Any, call_next: Any) -> httpx.Response:
        """Add the headers that the SuperLink checks."""
        when = datetime.datetime.fromtimestamp(time.time() + self.clock, datetime.UTC).isoformat()
        signature = self.key.sign(when.encode(), ec.ECDSA(hashes.SHA256()))
        context.request.headers["flwr-public-key"] = self.public
        context.request.headers["flwr-timestamp"] = when
        context.request.headers["flwr-signature"] = base64.b64encode(signature).decode()
        return call_next(context)  # type: ignore[no-any-return]


def public_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half of a key as the SuperLink knows it (PEM)."""
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(*pem))


def noticing_a_dead_end() -> list[tuple[int, int, int]]:
    """Return the options of a connection, as far as this system has them."""
    chosen = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    tcp = {
        "TCP_KEEPIDLE": DEAD_SECONDS // 4,
        "TCP_KEEPINTVL": DEAD_SECONDS // 4,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 1000 * DEAD_SECONDS,
    }
    for name, value in tcp.items():
        if hasattr(socket, name):
            chosen.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return chosen
