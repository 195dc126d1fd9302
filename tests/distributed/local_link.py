"""Carry requests to sites of the same process, and lose, repeat or delay what a test says."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fedmosaic.distributed.link import Answer, Delivery
from fedmosaic.distributed.messages import SiteRequest, decode_request
from fedmosaic.errors import LinkError

Fault = Callable[["LocalLink", str, SiteRequest], str]
"""From a node and a request to ``""``, ``lose request``, ``lose answer`` or ``twice``."""


@dataclass
class LocalNode:
    """Run a site's answering function on a thread, one request after the other."""

    answer: Answer
    requests: queue.Queue[tuple[str, bytes]] = field(default_factory=queue.Queue)


class LocalLink:
    """Implement a link inside one process.

    Args:
        sites: the answering function of each node.
        fault: says what goes wrong with a request; None: nothing does.
    """

    def __init__(self, sites: Mapping[str, Answer], fault: Fault | None = None) -> None:
        self.fault = fault
        self.present: dict[str, LocalNode] = {}
        self.answers: queue.Queue[Delivery] = queue.Queue()
        self.sent: list[tuple[str, SiteRequest]] = []
        self.passed: list[tuple[str, bytes]] = []  # every answer that left a node
        self._numbers = itertools.count()
        self.lock = threading.Lock()  # the sites of one process share torch's settings
        for node, answer in sites.items():
            self.connect(node, answer)

    def connect(self, node: str, answer: Answer) -> None:
        self.present[node] = made = LocalNode(answer)
        threading.Thread(target=self._serve, args=(node, made), daemon=True).start()

    def disconnect(self, node: str) -> None:
        self.present.pop(node, None)

    def nodes(self) -> set[str]:
        return set(self.present)

    def send(self, node: str, payload: bytes, time_limit: float) -> str:
        if node not in self.present:
            raise LinkError(f"{node} is gone")
        number = str(next(self._numbers))
        self.sent.append((node, decode_request(payload)))
        self.present[node].requests.put((number, payload))
        return number

    def receive(self, timeout: float) -> list[Delivery]:
        found = []
        try:
            found.append(self.answers.get(timeout=min(timeout, 0.02)))
            while True:
                found.append(self.answers.get_nowait())
        except queue.Empty:
            return found

    def close(self) -> None:
        self.present.clear()

    def _serve(self, node: str, own: LocalNode) -> None:
        while self.present.get(node) is own:
            try:
                number, payload = own.requests.get(timeout=0.05)
            except queue.Empty:
                continue
            fault = self.fault(self, node, decode_request(payload)) if self.fault else ""
            if fault == "lose request" or self.present.get(node) is not own:
                continue
            try:
                with self.lock:
                    answer = own.answer(payload)
            except BaseException as error:  # a site that was killed answers nothing
                self.present.pop(node, None)
                self.killed = error
                return
            self.passed.append((node, answer))
            if fault != "lose answer":
                for _ in range(2 if fault == "twice" else 1):
                    self.answers.put(Delivery(node, number, answer))
