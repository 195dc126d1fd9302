"""Run clients in several processes of one machine, with the numbers of a single process.

Each worker is :mod:`fedmosaic.federation.worker_process` in a process of its own. It owns some of
the clients and answers requests on its standard input. A request and an answer are each a JSON
header and one block of bytes. A worker whose parent is gone ends itself.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedmosaic.errors import FedMosaicError, listed
from fedmosaic.federation.answers import require_no_error
from fedmosaic.federation.grouping import divide, groups_of
from fedmosaic.federation.instructions import ClientResult, Instructions, Introduction
from fedmosaic.federation.introduce import read_introductions
from fedmosaic.federation.placement import describe
from fedmosaic.federation.processes import ForkServer, start_process
from fedmosaic.federation.resources import VISIBLE, cards
from fedmosaic.federation.runtime import Runtime
from fedmosaic.frames import Header, read_frame, write_frame
from fedmosaic.models.options import resolve_device

Ready = queue.Queue[tuple[str, ClientResult | BaseException]]
Answer = tuple[Header, bytes]
WORKER = "fedmosaic.federation.worker_process"
STOP_SECONDS = 10


class Workers:
    """Reach clients in ``count`` worker processes, divided by :func:`.grouping.divide`.

    A client's own seeds decide its numbers, so they do not depend on ``count``. Where there are
    several cards (:func:`cards`), worker k sees card k mod their number and no other.

    Args:
        runtime: what the clients share; the workers load it again.
        count: number of processes.
        server: is forked for each of them, on a CPU; None for fresh interpreters.
        folder: where the state of clients that are not in memory is kept; None: in the system's
            folder for temporary files.
    """

    def __init__(
        self,
        runtime: Runtime,
        count: int,
        server: ForkServer | None = None,
        folder: Path | None = None,
    ) -> None:
        self.runtime = runtime
        on_cpu = resolve_device(runtime.scenario.models.device).type == "cpu"
        self.server = server if on_cpu else None  # a driver's state does not survive a fork
        self.roster = [client.name for client in runtime.scenario.clients]
        settings, found = runtime.settings.model_dump_json(), cards(runtime.scenario.models)
        self.workers = [
            _Worker(
                runtime,
                settings,
                share,
                self.server,
                found[index % len(found)] if found else None,
                folder,
            )
            for index, share in enumerate(divide(runtime, self.roster, count))
        ]

    def introduce(self) -> dict[str, Introduction]:
        found: dict[str, Introduction] = {}
        for header, _ in self._ask_all({"do": "introduce"}):
            found |= read_introductions(header)
        return {name: found[name] for name in self.roster}

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        ready: Ready = queue.Queue()
        threads = [
            threading.Thread(target=worker.work, args=(instructions, downloads, ready), daemon=True)
            for worker in self.workers
        ]
        for thread in threads:
            thread.start()
        waiting: dict[str, ClientResult] = {}
        for name in [name for name in self.roster if name in instructions]:
            while name not in waiting:
                found, result = ready.get()
                if isinstance(result, BaseException):
                    raise result
                waiting[found] = result
            yield name, waiting.pop(name)
        for thread in threads:
            thread.join()

    def placement(self) -> dict[str, Any] | None:
        return describe(self.runtime)

    def save(self, folder: Path) -> Callable[[], None]:
        self._ask_all({"do": "save", "folder": str(folder)})

        def written() -> None:
            for worker in self.workers:
                worker.saved()

        return written

    def load(self, folder: Path) -> None:
        self._ask_all({"do": "load", "folder": str(folder)})

    def save_adapters(self, folder: Path) -> None:
        self._ask_all({"do": "save_adapters", "folder": str(folder)})

    def close(self) -> None:
        if self.server is not None:
            self.server.close()  # first: processes that it has not started yet need no wait
        for worker in self.workers:
            worker.close()

    def _ask_all(self, header: Header) -> list[tuple[Header, bytes]]:
        """Send a request to all workers, then wait for all answers."""
        for worker in self.workers:
            worker.send(header)
        return [worker.receive() for worker in self.workers]


class _Worker:
    """Hold one worker process and the pipes to it."""

    def __init__(
        self,
        runtime: Runtime,
        settings: str,
        clients: Sequence[str],
        server: ForkServer | None = None,
        card: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.runtime = runtime
        self.clients = list(clients)
        # CUDA cannot be used in a fork of a process that has looked for cards.
        self.process = start_process(
            WORKER,
            server if card is None else None,
            environment=None if card is None else {VISIBLE: card},
        )
        # That a checkpoint is written is reported between answers, at any time.
        self._answers: queue.Queue[Answer | None] = queue.Queue()
        self._saved: queue.Queue[Answer | None] = queue.Queue()
        self._ending = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()
        states = None if folder is None else str(folder)
        self.send({"settings": settings, "clients": self.clients, "folder": states})

    def _read(self) -> None:
        """Sort what the process sends, until it ends."""
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            while (found := read_frame(stream)) is not None:
                (self._saved if "saved" in found[0] else self._answers).put(found)
        for found_by in (self._answers, self._saved):
            found_by.put(None)

    def work(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes], ready: Ready
    ) -> None:
        """Let the worker's clients take their turns; put each result or error into ``ready``."""
        waiting = [name for name in self.clients if name in instructions]
        for names in groups_of(self.runtime, waiting, instructions):
            bodies = [downloads[name] for name in names]
            asked = {name: asdict(instructions[name]) for name in names}
            sizes = [len(body) for body in bodies]
            try:
                self.send({"do": "work", "instructions": asked, "sizes": sizes}, b"".join(bodies))
                for name in names:
                    header, body = self.receive()
                    update = body if header["update"] else None
                    ready.put((name, ClientResult.from_json(header["result"], update)))
            except BaseException as error:  # raised again in the thread that waits for it
                ready.put((names[0], error))
                return

    def send(self, header: Header, body: bytes = b"") -> None:
        """Send a request. Raises FedMosaicError if the process is gone."""
        assert self.process.stdin is not None
        try:
            write_frame(self.process.stdin, header, body)
        except OSError as error:
            raise self._died() from error

    def receive(self) -> tuple[Header, bytes]:
        """Wait for an answer; raise the worker's error if that is its answer."""
        return self._next(self._answers)

    def saved(self) -> None:
        """Wait until the checkpoint of the last request is written; raise the worker's error."""
        self._next(self._saved)

    def _next(self, sent: queue.Queue[Answer | None]) -> Answer:
        found = sent.get()
        if found is None:
            sent.put(None)  # there will be no other
            raise self._died()
        header, body = found
        require_no_error(header)
        return header, body

    def close(self) -> None:
        """End the process: closing its input is the request, killing it the last resort."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):  # bytes that a dead worker did not take
                self.process.stdin.close()
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _died(self) -> FedMosaicError:
        status: int | str = "unknown"
        # Its pipes close before it has ended. A turn and a checkpoint may both wait for it.
        with self._ending, contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(timeout=STOP_SECONDS)
        return FedMosaicError(
            f"the worker process of clients {listed(self.clients)} ended unexpectedly "
            f"(exit {status}), perhaps for lack of memory; continue with "
            "`fedmosaic run --resume`, or with fewer --workers"
        )
