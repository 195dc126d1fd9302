"""Define what carries requests to sites and brings their answers.

A link carries opaque bytes to addresses. It knows neither names nor rounds. It may lose a request
or an answer, deliver one twice, or lose all of them when it starts anew; it never invents one or
mixes two up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Answer = Callable[[bytes], bytes]
"""The site's side of a link: makes the answer to a request. It is called for one at a time."""


@dataclass(frozen=True)
class Delivery:
    """Hold what came back for one request.

    Attributes:
        node: address of the node that it was sent to.
        request: id that :meth:`Link.send` returned.
        payload: the answer; empty where there is none.
        error: why there is no answer; empty for an answer.
    """

    node: str
    request: str
    payload: bytes = b""
    error: str = ""


class Link(Protocol):
    """Reach sites from the server."""

    def nodes(self) -> set[str]:
        """Return the addresses of the nodes that are connected now."""

    def send(self, node: str, payload: bytes, time_limit: float) -> str:
        """Send a request.

        Args:
            node: address of the node.
            payload: the request.
            time_limit: seconds after which no answer is expected any more.

        Returns:
            the request's id.

        Raises:
            LinkError: it cannot be sent.
        """

    def receive(self, timeout: float) -> list[Delivery]:
        """Wait for answers; return those that are there, none after ``timeout`` seconds."""

    def close(self) -> None:
        """Release processes and connections."""
