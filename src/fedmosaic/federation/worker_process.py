"""Run some of the clients in a process of their own.

:mod:`fedmosaic.federation.workers` starts the process, with pipes to it, and sends requests.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from fedmosaic.config import RunSettings
from fedmosaic.config.base import RECORDED
from fedmosaic.federation.answers import answers, described
from fedmosaic.federation.background import Background
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.frames import Header, read_frame, write_frame
from fedmosaic.plain_warnings import plain_warnings


class WorkerProcess:
    """Answer the requests for some of the clients.

    Args:
        first: the settings, the clients' names, and the folder for clients that are not in memory.
        results: takes the answers.
    """

    def __init__(self, first: Header, results: IO[bytes]) -> None:
        self.first = first
        self.settings = RunSettings.model_validate_json(first["settings"], context=RECORDED)
        self.background = Background(self.settings.scenario.server.background_checkpoints)
        self._clients: InProcess | None = None
        self._results, self._lock = results, threading.Lock()

    @property
    def clients(self) -> InProcess:
        """Return the clients; models and data are loaded at the first request."""
        if self._clients is None:
            prepare_torch(self.settings)
            folder = Path(self.first["folder"]) if self.first["folder"] else None
            self._clients = InProcess(Runtime(self.settings), set(self.first["clients"]), folder)
        return self._clients

    def serve(self, requests: IO[bytes]) -> None:
        """Answer requests until there are no more, and finish the checkpoint."""
        try:
            while (request := read_frame(requests)) is not None:
                header, body = request
                if header["do"] == "save":
                    self._send(self._begin_to_save(Path(header["folder"])))
                else:
                    for answer in answers(lambda: self.clients, header, body):
                        self._send(*answer)
        finally:
            self.background.close()

    def _send(self, header: Header, body: bytes = b"") -> None:
        with self._lock:
            write_frame(self._results, header, body)

    def _begin_to_save(self, folder: Path) -> Header:
        """Begin to write the clients into a folder of a checkpoint; return the answer."""
        try:
            write = self.clients.save(folder)
            self.background.start(lambda: self._finish(write))
        except Exception as error:
            return described(error)
        return {}

    def _finish(self, write: Callable[[], None]) -> None:
        """Write the clients of a checkpoint, and report that they are written."""
        report: Header = {"saved": True}
        try:
            write()
        except Exception as error:
            report = {"saved": False, **described(error)}
        with contextlib.suppress(BrokenPipeError):  # the parent is gone
            self._send(report)


def main() -> None:
    """Serve the parent until its end of the pipe closes."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to the terminal, not between the results
    # On Ctrl-C the parent prints the message; on a broken pipe it is gone.
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError), plain_warnings():
        first = read_frame(sys.stdin.buffer)
        if first is not None:
            WorkerProcess(first[0], results).serve(sys.stdin.buffer)


if __name__ == "__main__":
    main()
