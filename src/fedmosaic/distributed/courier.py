"""Bring requests to sites and their answers back, over a link that may lose both.

A request is sent as soon as its site is connected. If it fails or its site was away, it is sent
once more; since sites answer a repeated turn from disk, nothing is done twice. After some seconds
of silence a site is asked what became of a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmosaic.config import DeploymentSettings
from fedmosaic.distributed.link import Delivery, Link
from fedmosaic.distributed.membership import Membership
from fedmosaic.distributed.messages import SiteRequest, SiteResponse, decode_response, encode
from fedmosaic.distributed.status import StatusBoard
from fedmosaic.errors import LinkError, UpdateError

TICK = 0.25
"""Longest time in seconds that the courier waits for an answer before it looks around."""

QUIET = 15.0
"""Seconds of silence after which a site is asked what became of a turn."""

LONGEST_PAUSE = 30.0
"""Longest time in seconds until a request that failed is sent anew."""

ATTEMPTS = 5
"""How many times a site may fail at one request before it is given up."""


@dataclass
class Errand:
    """Hold a request that a site must answer.

    Attributes:
        site: the client's name.
        request: makes the request, each time that it is sent.
        seconds: in which the site must answer.
        inquiry: makes the question what became of it; None: it is sent once more instead.
        check: raises UpdateError for an answer that is not one to this request.
        attempts: after so many failures it is given up.
        remedy: returns an errand to be done before this one is tried again, for the reason of a
            failed answer; None: there is none.
    """

    site: str
    request: Callable[[], SiteRequest]
    seconds: float
    inquiry: Callable[[], SiteRequest] | None = None
    check: Callable[[SiteResponse], None] = lambda reply: None
    remedy: Callable[[str], Errand | None] = lambda reason: None
    attempts: int = ATTEMPTS
    failures: int = 0
    losses: int = 0
    error: str = ""
    over: bool = False
    _node: str = ""
    _sent: float = 0.0  # 0: the site has not got the request
    _asked: float = 0.0  # 0: no question what became of it is on its way
    _done: bool = False  # the site has said that it is done
    _not_before: float = 0.0
    _first: list[Errand] = field(default_factory=list)

    def current(self) -> Errand:
        """Return the errand that comes first: a remedy, or this one."""
        return self._first[0].current() if self._first else self


class Courier:
    """Carry out errands.

    Args:
        link: reaches the nodes.
        members: knows where the clients are.
        limits: the federation's deadlines and sizes.
        board: shows what happens.
        each_tick: called about four times a second; may raise to end everything.
        quiet: seconds of silence after which a site is asked what became of a turn.

    Attributes:
        late: answers to turns that were given up before, with their errands.
    """

    def __init__(
        self,
        link: Link,
        members: Membership,
        limits: DeploymentSettings,
        board: StatusBoard,
        each_tick: Callable[[], None] = lambda: None,
        quiet: float = QUIET,
    ) -> None:
        self.link, self.members, self.limits, self.board = link, members, limits, board
        self.each_tick = each_tick
        self.quiet = quiet
        self.late: list[tuple[Errand, SiteResponse]] = []
        self._flight: dict[str, tuple[Errand, Errand]] = {}  # request: its errand, the main one

    def answers(
        self, errands: Sequence[Errand], is_over: Callable[[Sequence[Errand]], bool]
    ) -> Iterator[tuple[Errand, SiteResponse | None]]:
        """Carry out errands; yield each with its answer, or None where it failed for good.

        Args:
            errands: one for each site.
            is_over: from the errands that are still open to whether to give them up.
        """
        open_errands = list(errands)
        while open_errands and not is_over(open_errands):
            self.tick(open_errands)
            for errand in [e for e in open_errands if e.site in self.members.ejected]:
                errand.over, errand.error = True, "it has been ejected"
                open_errands.remove(errand)
                yield errand, None
            for delivery in self.link.receive(TICK):
                for errand, reply in self._take(delivery):
                    errand.over = True
                    if errand in open_errands:
                        open_errands.remove(errand)
                        yield errand, reply
        for errand in open_errands:
            errand.over = True

    def wait(
        self,
        ready: Callable[[], bool],
        seconds: float,
        missing: Callable[[], Sequence[str]] = lambda: (),
    ) -> bool:
        """Wait until something is so, or the time is over; return whether it is.

        Args:
            ready: returns whether it is so.
            seconds: the longest time.
            missing: returns for whom it is waited, which is shown.
        """
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                return False
            self.tick([])
            self.board.set(waiting_for=list(missing()))
            for delivery in self.link.receive(TICK):
                list(self._take(delivery))
        return True

    def tick(self, errands: Sequence[Errand]) -> None:
        """Look around, and send what can be sent now."""
        self.each_tick()
        self.members.look()
        self.board.set(waiting_for=[errand.site for errand in errands])
        for errand in errands:
            self._drive(errand.current(), errand)

    # --- sending ------------------------------------------------------------------------------
    def _drive(self, errand: Errand, main: Errand) -> None:
        """Send an errand's request if it is time, or ask what became of it."""
        node, now = self.members.node(errand.site), time.monotonic()
        if node is None:
            errand._node = ""
        elif errand._node != node:
            if errand._sent and errand.inquiry is not None:  # perhaps it arrived before
                self._send(errand, main, node, errand.inquiry(), asks=True)
            elif now >= errand._not_before:
                self._send(errand, main, node, errand.request())
        elif errand.inquiry is None:
            if now - errand._sent > errand.seconds:
                errand._node, errand._sent = "", 0.0
        elif now - max(errand._sent, errand._asked) > self.quiet * (4 if errand._asked else 1):
            self._send(errand, main, node, errand.inquiry(), asks=True)

    def _send(
        self, errand: Errand, main: Errand, node: str, request: SiteRequest, asks: bool = False
    ) -> None:
        payload = encode(request)
        try:
            number = self.link.send(node, payload, errand.seconds)
        except LinkError as error:
            self._failed(errand, str(error), counts=False)
            return
        self._flight[number] = errand, main
        self.board.site(errand.site).bytes_down += len(payload)
        errand._node = node
        if asks:
            errand._asked = time.monotonic()
        else:
            errand._sent, errand._asked, errand._done = time.monotonic(), 0.0, False
            self.board.state_of(errand.site, "working")

    # --- answers ------------------------------------------------------------------------------
    def _take(self, delivery: Delivery) -> Iterator[tuple[Errand, SiteResponse | None]]:
        if self.members.take(delivery) or delivery.request not in self._flight:
            return
        errand, main = self._flight.pop(delivery.request)
        if delivery.error:
            errand._node, errand._sent = "", 0.0
            self._failed(errand, delivery.error, counts=False)
            return
        self.board.site(errand.site).bytes_up += len(delivery.payload)
        try:
            reply = decode_response(delivery.payload, int(self.limits.max_message_gib * (1 << 30)))
            self.members.note_link(errand.site, reply)
            if self.members.is_new_process(errand.site, reply):
                errand._node, errand._sent = "", 0.0  # anew, when it has shown who it is
                return
            if reply.kind == "inquire":
                if not main.over:
                    self._answered_inquiry(errand, reply)
                return
            if not reply.error:
                errand.check(reply)
        except UpdateError as error:
            yield from self._refused(errand, main, f"its answer is refused: {error}")
            return
        if reply.error:
            yield from self._refused(errand, main, reply.error, reply.reason)
        elif main.over:
            self.late.append((main, reply))
        else:
            self.board.state_of(errand.site, "connected")
            if errand is main:
                yield main, reply
            else:
                main._first.remove(errand)

    def _answered_inquiry(self, errand: Errand, reply: SiteResponse) -> None:
        """Send the request once more where it was lost, or where its answer was.

        The answer to a turn may come just after the site has said that it is done, so that is
        believed the second time.
        """
        done, errand._asked = reply.header.get("state") == "done", 0.0
        errand._sent = time.monotonic()
        if not done or errand._done:
            errand._node, errand._sent = "", 0.0
        if not done:
            self.members.recheck(errand.site)  # its process may have been started anew
        errand._done = done

    def _refused(
        self, errand: Errand, main: Errand, text: str, reason: str = ""
    ) -> Iterator[tuple[Errand, SiteResponse | None]]:
        """Try an errand again after its remedy, or after a while; yield it if that is in vain."""
        remedy = errand.remedy(reason) if reason else None
        errand._node, errand._sent = "", 0.0
        if remedy is not None:
            if remedy is not errand:
                main._first.append(remedy)
            return
        self._failed(errand, text)
        if errand.failures >= errand.attempts and not main.over:
            main.error = text
            yield main, None

    def _failed(self, errand: Errand, text: str, counts: bool = True) -> None:
        errand.failures += counts
        errand.losses += not counts
        pause = min(LONGEST_PAUSE, 2.0 ** min(max(errand.failures, errand.losses), 10) / 2)
        errand._not_before = time.monotonic() + pause
        leaving = self.members.ending and not counts  # a site that has finished is gone
        if errand.error != text and not leaving:
            self.board.error(errand.site, text)
        errand.error = text


def gather(
    courier: Courier, errands: Sequence[Errand]
) -> tuple[dict[str, SiteResponse], dict[str, str]]:
    """Carry out errands; return the answers, and why there is none, by site.

    Args:
        courier: carries them out.
        errands: one for each site; the longest of their times is the limit of all.
    """
    seconds = max((errand.seconds for errand in errands), default=0.0)
    end = time.monotonic() + seconds
    found: dict[str, SiteResponse] = {}
    for errand, reply in courier.answers(errands, lambda _: time.monotonic() > end):
        if reply is not None:
            found[errand.site] = reply
    missing: dict[str, Any] = {
        errand.site: errand.error or f"no answer within {seconds:g} s"
        for errand in errands
        if errand.site not in found
    }
    return found, missing
