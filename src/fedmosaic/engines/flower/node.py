"""Keep a site connected with its server: a small process without a model.

``python -m fedmosaic.engines.flower.node`` is the child of a site's process. It takes requests from
the SuperLink and hands them to its parent over its standard output, reads the answers from its
standard input, and sends them. Signs of life go on while the parent works. It connects anew
whenever the connection is lost, and ends when its parent does.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from typing import IO, Any

from fedmosaic.errors import FedMosaicError, LinkError, SiteError
from fedmosaic.frames import Header, read_frame, write_frame

SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class Parent:
    """Speak with the parent process.

    Attributes:
        changed: is set when there is an answer to send, or the node is to stop.
        stopping: whether the node is to stop when all answers are sent.
    """

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self._source = source
        self._target = target
        self._lock = threading.Lock()
        self._answers: list[tuple[str, bytes, str]] = []
        self.changed = threading.Event()
        self.stopping = False

    def start(self) -> None:
        """Begin to read; the process ends where the parent has."""
        threading.Thread(target=self._read, daemon=True).start()

    def write(self, header: Header, body: bytes = b"") -> None:
        """Send an event or a request to the parent."""
        try:
            with self._lock:
                write_frame(self._target, header, body)
        except OSError:
            os._exit(0)

    def next_answer(self) -> tuple[str, bytes, str] | None:
        """Return the earliest answer: the request's id, its content, and an error instead."""
        return self._answers[0] if self._answers else None

    def remove_answer(self) -> None:
        """Drop the earliest answer, and let the parent do so."""
        self.write({"sent": self._answers.pop(0)[0]})

    def _read(self) -> None:
        while (frame := read_frame(self._source)) is not None:
            header, body = frame
            if "answer" in header:
                self._answers.append((header["answer"], body, header.get("error", "")))
            else:
                self.stopping = True
            self.changed.set()
        os._exit(0)


def run(settings: dict[str, Any], parent: Parent) -> None:
    """Stay connected until the parent wants to stop.

    Raises:
        FedMosaicError: the server is not the right one, or refuses this node.
    """
    from fedmosaic.engines.flower.node_session import Node

    node = Node(settings, parent)
    pause = SHORTEST_PAUSE
    while True:
        try:
            node.connect()
            pause = SHORTEST_PAUSE
            node.serve()
            return
        except LinkError as error:
            parent.write({"event": "lost", "reason": str(error), "pause": pause})
            if parent.stopping:
                return
            parent.changed.wait(pause * random.uniform(0.8, 1.0))
            parent.changed.clear()
            pause = min(2 * pause, LONGEST_PAUSE)


def main() -> None:
    """Serve the parent until one of its pipes closes."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not go between the frames
    source = sys.stdin.buffer
    first = read_frame(source)
    if first is None:
        return
    parent = Parent(source, target)
    parent.start()
    try:
        run(first[0], parent)
        parent.write({"event": "stopped"})
    except SiteError as error:
        parent.write({"event": "refused", "reason": str(error)})
    except FedMosaicError as error:
        parent.write({"event": "failed", "reason": str(error)})
    os._exit(0)  # threads may wait for a connection


if __name__ == "__main__":
    main()
