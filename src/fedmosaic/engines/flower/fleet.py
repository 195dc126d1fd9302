"""Speak to a SuperLink as a SuperNode does; the only file that uses private parts of Flower.

Flower's SuperNode starts a new process for every message, which then loads its model anew. A site
keeps its model, so it speaks to the Fleet API itself. That takes Flower's HTTP client, its forms of
messages and the cutting of large ones, none of which Flower promises to leave as they are:
:func:`.environment.require_flower` checks the version.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Error, Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
)
from flwr.supercore.inflatable.inflatable_utils import (
    pull_objects as fetch_pieces,
)
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedmosaic.engines.flower.connecting import NodeSignature, noticing_a_dead_end, public_bytes
from fedmosaic.engines.flower.records import from_record, to_record
from fedmosaic.errors import UpdateError

# The SuperLink counts a node as gone after two such intervals without a sign of life. Requests that
# it has then are lost, so a shorter break, or the start of a killed site, must not count.
HEARTBEAT_SECONDS = 60.0
TIME_LIMIT = 15.0  # of one operation without content
# Of a piece of 5 MiB, two of which go at a time: where it is not enough, the next connection allows
# twice as much. Flower gives an upload up that brings no piece for 180 s, hence the longest.
PIECE_TIME_LIMIT, LONGEST_PIECE_TIME_LIMIT = 20.0, 160.0
PIECES_AT_A_TIME = 2
PIECE_WAIT_SECONDS = 180.0
ERROR_CODE = 1


@dataclass(frozen=True)
class Request:
    """Hold a request: where it stands, without its content.

    Attributes:
        raw: what the SuperLink sent for it, from which it can be read again.
    """

    raw: bytes
    message: Message
    tree: Any

    @classmethod
    def read(cls, raw: bytes) -> Request | None:
        """Read what the SuperLink sent; None if it holds no request."""
        found = PullMessagesResponse.FromString(raw)
        if not found.messages_list:
            return None
        message = message_from_proto(found.messages_list[0])
        return cls(raw, message, found.message_object_trees[0])

    @property
    def id(self) -> str:
        """Its id at the SuperLink."""
        return str(self.message.metadata.message_id)


class Fleet:
    """Hold a connection to a SuperLink; several threads may use it.

    Args:
        server: ``HOST:PORT``.
        context: how to recognise it; None for plain text.
        key: this node's private key.
        clock: seconds that the server's clock is ahead.
        piece_time_limit: seconds that one piece of a content may take.

    Attributes:
        node: the node's id, after :meth:`resume` or :meth:`activate`.
    """

    def __init__(
        self,
        server: str,
        context: ssl.SSLContext | None,
        key: ec.EllipticCurvePrivateKey,
        clock: float,
        piece_time_limit: float = PIECE_TIME_LIMIT,
    ) -> None:
        self.key = key
        self.clock = clock
        self.node = 0
        scheme = "http" if context is None else "https"
        signature = NodeSignature(key, clock)
        self.client = _client(f"{scheme}://{server}", context, signature, TIME_LIMIT)
        self.pieces = _client(f"{scheme}://{server}", context, signature, piece_time_limit)

    def resume(self, node: int) -> bool:
        """Return whether the SuperLink still knows this node, which is then connected."""
        self.node = node
        try:
            return self.beat()
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.UNAUTHORIZED:
                return False
            raise

    def activate(self, register: bool) -> None:
        """Connect as a node that the SuperLink has registered, or registers now."""
        public = public_bytes(self.key)
        if register:
            with contextlib.suppress(httpx.HTTPStatusError):  # it was registered before
                self.client.RegisterNode(RegisterNodeFleetRequest(public_key=public))
        request = ActivateNodeRequest(public_key=public, heartbeat_interval=HEARTBEAT_SECONDS)
        self.node = self.client.ActivateNode(request).node_id

    def beat(self) -> bool:
        """Give a sign of life; return whether the SuperLink knows this node."""
        request = SendNodeHeartbeatRequest(
            node=Node(node_id=self.node), heartbeat_interval=HEARTBEAT_SECONDS
        )
        return bool(self.client.SendNodeHeartbeat(request).success)

    def poll(self) -> Request | None:
        """Return a request that waits for this node."""
        found = self.client.PullMessages(PullMessagesRequest(node=Node(node_id=self.node)))
        return Request.read(found.SerializeToString())

    def fetch(self, request: Request, max_bytes: int) -> bytes:
        """Return the content of a request, in pieces until it is too long.

        Raises:
            UpdateError: it is too long, no longer there, or something else than bytes.
        """
        pieces: dict[str, bytes] = {}
        names = list(dict.fromkeys(tree.object_id for tree in iterate_object_tree(request.tree)))
        taken = 0
        with ThreadPoolExecutor(PIECES_AT_A_TIME) as pool:
            for start in range(0, len(names), PIECES_AT_A_TIME):
                part = names[start : start + PIECES_AT_A_TIME]
                found = pool.map(lambda name: self._piece(request, name), part)
                pieces.update(zip(part, found, strict=True))
                taken += sum(len(pieces[name]) for name in part)
                if taken > max_bytes + 2**20:
                    raise UpdateError(f"a request of over {max_bytes} bytes")
        try:
            message = inflate_object_from_contents(request.id, pieces)
        except Exception as error:  # whatever Flower fails with on content of another form
            raise UpdateError(f"a request that cannot be read: {error!r}") from error
        if not isinstance(message, Message) or not message.has_content():
            raise UpdateError("a request without content")
        return from_record(message.content)

    def confirm(self, request: Request) -> None:
        """Let the SuperLink drop the content of a request."""
        self.client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=Node(node_id=self.node),
                run_id=request.message.metadata.run_id,
                message_object_id=request.id,
            )
        )

    def reply(self, request: Request, payload: bytes, error: str) -> Message:
        """Make the reply to a request, in the server's time."""
        content = Error(ERROR_CODE, error) if error else to_record(payload)
        found = Message(content, reply_to=request.message)
        metadata, asked = found.metadata, request.message.metadata
        now = time.time() + self.clock
        metadata.__dict__["_created_at"] = now
        metadata.__dict__["_ttl"] = asked.created_at + asked.ttl - now
        metadata.__dict__["_message_id"] = found.object_id
        return found

    def push(self, reply: Message) -> None:
        """Send a reply; what the SuperLink has of it already is not sent a second time.

        Raises:
            UpdateError: the server no longer waits for it.
        """
        with no_object_id_recompute():  # each would hash all the content
            objects, tree = get_all_nested_objects(reply), get_object_tree(reply)
        bare = remove_content_from_message(reply) if reply.has_content() else reply
        request = PushMessagesRequest(
            node=Node(node_id=self.node),
            messages_list=[message_to_proto(bare)],
            message_object_trees=[tree],
            clientapp_runtime_list=[0.0],
        )
        taken = self.client.PushMessages(request)
        missing = set(taken.objects_to_push)
        names = [name for name in objects if name in missing]
        with ThreadPoolExecutor(PIECES_AT_A_TIME) as pool:
            for start in range(0, len(names), PIECES_AT_A_TIME):
                part = names[start : start + PIECES_AT_A_TIME]
                contents = [objects[name].deflate() for name in part]
                push = self._push_piece(reply, taken.session_id)
                if not all(pool.map(push, part, contents)):
                    raise UpdateError("the server no longer waits for this answer")

    def leave(self) -> None:
        """Tell the SuperLink that this node leaves."""
        with contextlib.suppress(httpx.HTTPError):  # else it notices by itself
            self.client.DeactivateNode(DeactivateNodeRequest(node_id=self.node))
        self.close()

    def close(self) -> None:
        """Close the connections; for the SuperLink, the node stays."""
        self.client.close()
        self.pieces.close()

    def _piece(self, request: Request, name: str) -> bytes:
        """Fetch a piece, which the server may still be sending to the SuperLink."""
        end = time.monotonic() + PIECE_WAIT_SECONDS
        while True:
            found = self.pieces.PullObject(
                PullObjectRequest(
                    node=Node(node_id=self.node),
                    run_id=request.message.metadata.run_id,
                    object_id=name,
                )
            )
            if found.object_available:
                return bytes(found.object_content)
            if not found.object_found or time.monotonic() > end:
                raise UpdateError("the content of a request is no longer at the server")
            time.sleep(0.1)

    def _push_piece(self, reply: Message, session: str) -> Callable[[str, bytes], bool]:
        def push(name: str, content: bytes) -> bool:
            request = PushObjectRequest(
                node=Node(node_id=self.node),
                run_id=reply.metadata.run_id,
                session_id=session,
                object_id=name,
                object_content=content,
            )
            return bool(self.pieces.PushObject(request).stored)

        return push


def _client(
    url: str, context: ssl.SSLContext | None, signature: NodeSignature, time_limit: float
) -> FleetHttpClient:
    verify = False if context is None else context
    client = FleetHttpClient(url, interceptors=[signature], verify=verify, timeout=time_limit)
    client._client.close()
    transport = httpx.HTTPTransport(verify=verify, socket_options=noticing_a_dead_end())
    client._client = httpx.Client(transport=transport, timeout=time_limit, trust_env=False)
    return client


def ask_for_pieces_sooner() -> None:
    """Let the grid of this process ask for the pieces of an answer that is arriving more often.

    By default it waits 1 s for a piece that is not there yet, then 2 s, 4 s, 8 s and 10 s.
    """
    chosen = {"initial_backoff": 0.05, "backoff_cap": 0.5, "max_tries_per_object": 100_000}
    fetch_pieces.__kwdefaults__.update(chosen)
