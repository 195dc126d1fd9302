"""Connect the server's process with Flower's grid: the ``ServerApp`` of a deployment.

Flower starts a ``ServerApp`` in a process of its own. This one has no federation in it: it carries
requests from a socket of the server's process to the grid, and answers back.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from typing import IO

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmosaic.engines.flower.fleet import ask_for_pieces_sooner
from fedmosaic.engines.flower.grid_link import GridLink
from fedmosaic.errors import LinkError
from fedmosaic.frames import Header, read_frame, write_frame

SOCKET_VARIABLE = "FEDMOSAIC_RELAY"
RECEIVE_SECONDS = 0.05
NODES_SECONDS = 0.5
SIGN_SECONDS = 5.0  # the longest silence of a relay that has nothing to do

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry requests and answers until the server's process closes the socket."""
    ask_for_pieces_sooner()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.environ[SOCKET_VARIABLE])
        with connection.makefile("rb") as requests, connection.makefile("wb") as answers:
            _relay(GridLink(grid, concurrent=True), requests, answers)


def _relay(link: GridLink, requests: IO[bytes], answers: IO[bytes]) -> None:
    inbox: queue.Queue[tuple[Header, bytes] | None] = queue.Queue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    names: dict[str, str] = {}  # the server's id of a request, by Flower's
    nodes: set[str] | None = None
    asked = shown = 0.0
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while True:
            while not inbox.empty():
                if (frame := inbox.get()) is None:
                    return
                _send(link, names, answers, *frame)
            for found in link.receive(RECEIVE_SECONDS):
                header = {"request": names.pop(found.request), "error": found.error}
                write_frame(answers, header, found.payload)
            if time.monotonic() - asked > NODES_SECONDS:
                asked = time.monotonic()
                if (now := link.nodes()) != nodes or asked - shown > SIGN_SECONDS:
                    nodes, shown = now, asked
                    write_frame(answers, {"nodes": sorted(nodes)})


def _send(
    link: GridLink, names: dict[str, str], answers: IO[bytes], header: Header, payload: bytes
) -> None:
    try:
        names[link.send(header["node"], payload, header["limit"])] = header["request"]
    except LinkError as error:
        write_frame(answers, {"request": header["request"], "error": str(error)})


def _read(requests: IO[bytes], inbox: queue.Queue[tuple[Header, bytes] | None]) -> None:
    while (frame := read_frame(requests)) is not None:
        inbox.put(frame)
    inbox.put(None)
