"""Know which client is at which node: nodes come and go, names are proved.

Every new node is asked who it is. Its answer holds the client's name and, where the federation has
keys, a signature over the server's random number. A node that returns with another model, under a
name that is taken or with a wrong signature is refused, and told why.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fedmosaic.distributed.link import Delivery, Link
from fedmosaic.distributed.messages import (
    SiteRequest,
    SiteResponse,
    challenge_of,
    decode_response,
    encode,
)
from fedmosaic.distributed.status import StatusBoard
from fedmosaic.errors import LinkError, UpdateError

Verify = Callable[[str, bytes, bytes], bool]
"""From a name, the challenge and the proof to whether the proof is the named client's."""

FIXED = ("weights", "r")
"""Facts in which a client may not differ when it returns."""

AGAIN = 10.0
"""Seconds after which a node that could not be identified is asked once more."""


SOON = 3.0
"""Seconds within which a node that is there says who it is."""


class Membership:
    """Identify nodes.

    Args:
        link: reaches the nodes.
        session: id of the run.
        expected: the clients' names.
        board: shows what happens.
        verify: checks a client's proof; None: names are believed.
        known: facts of the clients that have joined the run before.
        read: raises UpdateError for facts that are damaged; takes them and whose they are.
        limit: most bytes of an answer.

    Attributes:
        facts: of the clients that have joined, by name.
        ejected: clients that may not take part any more, with the reasons.
        ending: whether the run is over, so that sites leave.
    """

    def __init__(
        self,
        link: Link,
        session: str,
        expected: Collection[str],
        board: StatusBoard,
        verify: Verify | None = None,
        known: Mapping[str, Mapping[str, Any]] | None = None,
        read: Callable[[Any, str], object] = lambda facts, origin: None,
        limit: int = 1 << 24,
    ) -> None:
        self.link, self.session, self.board = link, session, board
        self.expected = list(expected)
        self.verify = verify
        self.read = read
        self.limit = limit
        self.facts: dict[str, Mapping[str, Any]] = dict(known or {})
        self.ejected: dict[str, str] = {}
        self.ending = False
        self._node_of: dict[str, str] = {}
        self._name_of: dict[str, str] = {}
        self._nodes: set[str] = set()
        self._asked: dict[str, tuple[str, str, float]] = {}  # request: node, nonce, when
        self._wait: dict[str, float] = {}  # node: not asked before
        self._processes: dict[str, set[str]] = {}  # name: ids that its process has had
        self._troubles: set[tuple[str, str, int]] = set()  # of links, that have been shown

    def node(self, name: str) -> str | None:
        """Return the node where a client is now; None if it is not connected."""
        node = self._node_of.get(name)
        return node if node in self._nodes else None

    def connected(self) -> list[str]:
        """Return the clients that are connected, in the order of the expected names."""
        return [name for name in self.expected if self.node(name) is not None]

    def look(self) -> None:
        """See which nodes have come and gone, and ask new ones who they are."""
        now = self.link.nodes()
        for node in self._nodes - now:
            self._gone(node)
        self._nodes = set(now)
        clock, asked = time.monotonic(), {node for node, _, _ in self._asked.values()}
        for node in sorted(now - set(self._name_of) - asked):
            if self._wait.get(node, 0.0) <= clock:
                self._ask(node)

    def is_asking(self) -> bool:
        """Return whether a node has been asked just now who it is, and may answer any moment."""
        recent = time.monotonic() - SOON
        return any(asked > recent for _, _, asked in self._asked.values())

    def recheck(self, name: str) -> None:
        """Ask a client's node once more who it is: its process may have been started anew."""
        node = self._node_of.pop(name, None)
        if node is not None:
            self._name_of.pop(node, None)

    def take(self, delivery: Delivery) -> bool:
        """Take the answer to a question of :meth:`look`; return whether it was one."""
        if delivery.request not in self._asked:
            return False
        node, nonce, _ = self._asked.pop(delivery.request)
        self._wait[node] = time.monotonic() + AGAIN
        if delivery.error:
            self.board.event(f"a node does not say who it is: {delivery.error}", error=True)
            return True
        try:
            self._identify(node, nonce, decode_response(delivery.payload, self.limit))
        except UpdateError as error:
            self._refuse(node, str(error))
        return True

    def is_new_process(self, name: str, reply: SiteResponse) -> bool:
        """Return whether an answer is a new process's, which is then asked who it is."""
        process, known = str(reply.header.get("process", ""))[:32], self._processes.get(name)
        is_new = bool(process and known and process not in known)
        if is_new:
            self.board.error(name, "its process has ended, and was started anew")
            self.recheck(name)
        if process:
            self._processes.setdefault(name, set()).add(process)
        return is_new

    def note_link(self, name: str, reply: SiteResponse) -> None:
        """Show what a site says of its connection, once for each event."""
        process, found = str(reply.header.get("process", ""))[:32], reply.header.get("link")
        if isinstance(found, list) and len(found) == 2 and isinstance(found[0], int):
            event = (name, process, found[0])
            if event not in self._troubles:
                self._troubles.add(event)
                text = "".join(sign for sign in str(found[1])[:200] if sign.isprintable())
                self.board.error(name, f"at the site: {text}")

    def eject(self, name: str, reason: str) -> None:
        """Let a client take part no more."""
        self.ejected[name] = reason
        node = self._node_of.pop(name, None)
        if node is not None:
            self._refuse(node, reason)
        self.board.state_of(name, "ejected")
        self.board.event(f"{name}: ejected. {reason}", site=name)

    # --- questions and answers ----------------------------------------------------------------
    def _ask(self, node: str) -> None:
        nonce = secrets.token_hex(16)
        try:
            request = self.link.send(
                node, encode(SiteRequest("hello", self.session, {"nonce": nonce})), AGAIN * 6
            )
            self._asked[request] = node, nonce, time.monotonic()
        except LinkError:
            self._wait[node] = time.monotonic() + AGAIN

    def _gone(self, node: str) -> None:
        self._wait.pop(node, None)
        self._asked = {key: found for key, found in self._asked.items() if found[0] != node}
        name = self._name_of.pop(node, None)
        if name is not None and self._node_of.get(name) == node:
            del self._node_of[name]
            self.board.state_of(name, "away")
            if self.ending:
                self.board.event(f"{name}: has left", site=name)
            else:
                self.board.error(name, "the connection is lost")

    def _identify(self, node: str, nonce: str, reply: SiteResponse) -> None:
        if reply.error:
            self.board.event(f"a node cannot say who it is: {reply.error}", error=True)
            return
        name, facts = str(reply.header.get("name")), reply.header.get("facts")
        if reply.kind != "hello" or reply.session != self.session or not isinstance(facts, dict):
            raise UpdateError("its answer is not that of a site of this run")
        self.read(facts, f"client {name[:80]}")
        if (refusal := self._refusal(name, node, facts, nonce, reply)) is not None:
            if name in self.expected:
                self.board.error(name, refusal)
            self._refuse(node, refusal)
            return
        back = name in self.facts
        self.facts[name] = facts
        self.is_new_process(name, reply)
        self.note_link(name, reply)
        self._node_of[name], self._name_of[node] = node, name
        self.board.state_of(name, "connected")
        self.board.event(f"{name}: {'is back' if back else 'has joined'}", site=name)

    def _refusal(
        self, name: str, node: str, facts: Mapping[str, Any], nonce: str, reply: SiteResponse
    ) -> str | None:
        """Return why a node is refused; None if it is welcome."""
        if name not in self.expected:
            return f"no client of this federation is named {name[:80]!r}"
        if name in self.ejected:
            return f"client {name!r} has been ejected from this run: {self.ejected[name]}"
        if self.verify is not None:
            challenge = challenge_of(self.session, nonce, name)
            try:
                proof = bytes.fromhex(str(reply.header.get("proof")))
            except ValueError:
                proof = b""
            if not self.verify(name, challenge, proof):
                return f"the key is not that of client {name!r}"
        other = self.node(name)
        if other is not None and other != node:
            return f"client {name!r} is connected already, from another process"
        before = self.facts.get(name, {})
        for field in FIXED:
            if field in before and before[field] != facts.get(field):
                return (
                    f"client {name!r} has come back with another model: its {field} is "
                    f"{facts.get(field)!r} and was {before[field]!r}; start it with the model with "
                    "which it joined"
                )
        return None

    def _refuse(self, node: str, text: str) -> None:
        """Tell a node that it is refused. It is asked again later: the reason may have gone."""
        self.board.event(f"a node is refused: {text}", error=True)
        self._name_of.pop(node, None)
        self._wait[node] = time.monotonic() + AGAIN
        header = {"message": f"the server refuses this site: {text}", "refused": True}
        try:
            self.link.send(node, encode(SiteRequest("finish", self.session, header)), AGAIN)
        except LinkError as error:
            self.board.event(f"a refused node did not learn of it: {error}", error=True)
