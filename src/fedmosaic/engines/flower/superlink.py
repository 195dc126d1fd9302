"""Reach the sites of a deployment: start and supervise Flower's processes on the server."""

from __future__ import annotations

import contextlib
import itertools
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from fedmosaic.distributed.keys import ServerKeys
from fedmosaic.distributed.link import Delivery
from fedmosaic.engines.flower.environment import require_flower
from fedmosaic.engines.flower.processes import FlowerProcesses
from fedmosaic.engines.flower.superlink_files import prepare_files
from fedmosaic.errors import ConfigError, LinkError
from fedmosaic.frames import Header

MAX_BYTES = 2**31
LONGEST_PAUSE = 30.0
# A relay that sends nothing for so long hangs; sending the largest request takes less.
SILENCE_SECONDS = 300.0
LOCK_SECONDS = 5.0
LOST = "the server's link started anew while the request was on its way"


class FlowerLink:
    """Carry requests to sites through a SuperLink that this object starts and supervises.

    The SuperLink has TLS and accepts registered keys only. Where one of Flower's processes ends,
    all are started anew; requests that were on their way come back with an error.

    Args:
        folder: folder for Flower's files, which are not needed later.
        keys: keys of the server and of its clients; None for plain text without authentication.
        listen: host and port where sites connect. Port 0 takes any that is free.
        max_bytes: largest answer of a site; a longer one is refused before it is read.
        on_event: takes a line for each change: started, ended, started anew.

    Raises:
        ConfigError: Flower is missing, or another process uses the folder.
        LinkError: Flower does not start; the message has the last lines of its log.

    Attributes:
        address: host and port where it listens.
    """

    def __init__(
        self,
        folder: Path,
        keys: ServerKeys | None,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        max_bytes: int = MAX_BYTES,
        on_event: Callable[[str], None] = lambda line: None,
    ) -> None:
        require_flower()
        self._own = _lock(folder)
        self.files = prepare_files(folder, keys)
        self.max_bytes = max_bytes
        self.on_event = on_event
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.files.socket))
        self._socket.listen(1)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[str, str] = {}  # request and the node it was sent to
        self._nodes: set[str] = set()
        self._ready: queue.Queue[Delivery] = queue.Queue()
        self._closed = threading.Event()
        self.address = listen
        self._processes: FlowerProcesses | None = None
        self._supervisor: threading.Thread | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()

    def nodes(self) -> set[str]:
        return set(self._nodes)

    def send(self, node: str, payload: bytes, time_limit: float) -> str:
        if len(payload) > self.max_bytes:
            raise LinkError(f"a request of {len(payload)} bytes; at most {self.max_bytes} are sent")
        request = str(next(self._ids))
        with self._lock:
            if self._processes is None:
                raise LinkError("the server's link is down and is being started anew")
            self._waiting[request] = node
            try:
                header = {"request": request, "node": node, "limit": time_limit}
                self._processes.send(header, payload)
            except OSError as error:
                del self._waiting[request]
                raise LinkError(f"the server's link has ended: {error}") from error
        return request

    def receive(self, timeout: float) -> list[Delivery]:
        found: list[Delivery] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._ready.get(timeout=timeout))
            while True:
                found.append(self._ready.get_nowait())
        return found

    def close(self) -> None:
        self._closed.set()
        if self._supervisor is not None:
            self._supervisor.join()  # it may be starting processes
        with self._lock:
            processes, self._processes = self._processes, None
        if processes is not None:
            processes.close()
        self._socket.close()
        self.files.socket.unlink(missing_ok=True)
        if self.files.socket.parent != self.files.folder:
            shutil.rmtree(self.files.socket.parent, ignore_errors=True)
        self._own.release()

    def _start(self) -> None:
        processes = FlowerProcesses(
            self.files, self.address, self.max_bytes, self._socket, self._closed
        )
        self.address = (self.address[0], processes.port)
        self._last_sign = time.monotonic()
        with self._lock:
            self._processes = processes
        threading.Thread(target=self._read, args=(processes,), daemon=True).start()
        self.on_event(f"listening at {self.address[0]}:{self.address[1]}")

    def _read(self, processes: FlowerProcesses) -> None:
        """Take what the relay sends, until it is gone."""
        while (frame := processes.receive()) is not None:
            self._last_sign = time.monotonic()
            self._take(*frame)
        with self._lock:
            if self._processes is processes:
                self._processes = None
        if not self._closed.is_set():
            self.on_event(
                f"the link has ended: {processes.ended() or 'the relay has ended, or hangs'}"
            )
        processes.close()
        self._nodes = set()
        for request in list(self._waiting):
            self._answered(request, error=LOST)

    def _take(self, header: Header, payload: bytes) -> None:
        if "nodes" in header:
            self._nodes = set(header["nodes"])
        else:
            self._answered(header["request"], payload, header["error"])

    def _answered(self, request: str, payload: bytes = b"", error: str = "") -> None:
        node = self._waiting.pop(request, None)
        if node is not None:
            self._ready.put(Delivery(node, request, payload, error))

    def _supervise(self) -> None:
        """Watch the processes; start them anew when one has ended."""
        pause = 1.0
        while not self._closed.wait(0.2):
            processes = self._processes
            if processes is not None:
                silence = time.monotonic() - self._last_sign
                if processes.ended() or silence > SILENCE_SECONDS:
                    processes.close()  # which ends the thread that reads from it
                continue
            try:
                self._start()
                pause = 1.0
            except (LinkError, OSError) as error:
                if not self._closed.is_set():
                    self.on_event(f"{error}; trying again in {pause:.0f} s")
                self._closed.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)


def _lock(folder: Path) -> FileLock:
    """Lock the folder of a link for this process."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise ConfigError(f"another process uses {folder}: is this server running?") from None
    return lock
