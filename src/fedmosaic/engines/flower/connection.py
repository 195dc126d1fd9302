"""Connect a site with its server: supervise the node, and answer what it takes."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedmosaic.distributed.keys import ClientKeys
from fedmosaic.distributed.link import Answer
from fedmosaic.engines.flower.children import child_environment
from fedmosaic.engines.flower.environment import flower_variables, require_flower
from fedmosaic.engines.flower.greeting import split_address
from fedmosaic.errors import ConfigError, LinkError, SiteError
from fedmosaic.frames import Header, read_frame, write_frame

SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
CLOCK_SECONDS = 60.0
STOP_SECONDS = 60.0
LEAVE_SECONDS = 2.0
TICK = 0.2


def serve_site(
    answer: Answer,
    *,
    server: str,
    keys: ClientKeys | None,
    folder: Path,
    on_event: Callable[[str], None] = lambda line: None,
    until: threading.Event | None = None,
    patience: float | None = None,
) -> None:
    """Answer the requests of a server until the site is to stop.

    A child process keeps the connection. A connection that is lost is made anew, with a line about
    it; what the child has taken and not yet answered outlives both processes.

    Args:
        answer: makes the answer to a request; it is called for one at a time, in this thread. Where
            it raises LinkError, the server gets its text in place of an answer.
        server: ``HOST:PORT``.
        keys: keys of this client; None for plain text without authentication.
        folder: folder for the node's files. One process at a time may use it.
        on_event: takes a line for each change of the connection.
        until: ends it when it is set, after the last answer is sent.
        patience: seconds without a connection after which it gives up; None: never.

    Raises:
        ConfigError: Flower is missing, the address is wrong, or another process uses the folder.
        SiteError: the server refuses this site, and would do so another time.
        LinkError: there was no connection for ``patience`` seconds.
    """
    require_flower()
    check_address(server)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "server": server,
        "ca": None if keys is None else str(keys.ca.absolute()),
        "key": None if keys is None else str(keys.key.absolute()),
        "folder": str(folder.absolute()),
    }
    try:
        with FileLock(folder / "lock", timeout=0):
            _Connection(settings, answer, on_event, until or threading.Event(), patience).run()
    except Timeout:
        raise ConfigError(f"another process uses {folder}: is this client running?") from None


def check_address(server: str) -> None:
    """Raise ConfigError unless a server's address is ``HOST:PORT``."""
    try:
        host, port = split_address(server)
    except ValueError:
        host, port = "", 0
    if not host or not 0 < port < 65536:
        raise ConfigError(f"the server's address {server!r} is not HOST:PORT")


class _Connection:
    """Hold the state of :func:`serve_site`."""

    def __init__(
        self,
        settings: dict[str, Any],
        answer: Answer,
        on_event: Callable[[str], None],
        until: threading.Event,
        patience: float | None,
    ) -> None:
        self.settings = settings
        self.answer = answer
        self.on_event = on_event
        self.until = until
        self.patience = patience
        self.requests: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.seen: set[str] = set()  # requests that wait, are being answered, or are answered
        # Content, or an error instead, until the child says that they are sent.
        self.answers: dict[str, tuple[bytes, str]] = {}
        self.failed: Exception | None = None
        self.lost_since: float | None = time.monotonic()
        self.child: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.stopping = False

    def run(self) -> None:
        """Answer requests in this thread, and watch the child in another one."""
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            while not self.over.is_set():
                with contextlib.suppress(queue.Empty):
                    request, payload = self.requests.get(timeout=TICK)
                    self.answers[request] = self._made(payload)
                    self._send_answer(request)
                if self.until.is_set() and self.requests.empty():
                    break
                self._check_patience()
            self._stop(watch)
        finally:
            self.over.set()
            self._kill()
            watch.join()
        if self.failed is not None:
            raise self.failed

    def _watch(self) -> None:
        """Start the child, and a new one whenever it has ended."""
        pause = SHORTEST_PAUSE
        while not self.over.is_set():
            started = time.monotonic()
            try:
                reason = self._run_child()
            except OSError as error:  # no memory, or a full disk
                reason = f"the connecting process does not start: {error.strerror}"
            has_left = self.stopping and not self.answers
            if has_left or self.over.is_set() or self.failed is not None:
                return
            self._lose()
            pause = SHORTEST_PAUSE if time.monotonic() - started > LONGEST_PAUSE else pause
            self.on_event(f"{reason}; a new one starts in {pause:.0f} s")
            self.over.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _run_child(self) -> str:
        """Start a child and take what it sends until it has ended; return why it has."""
        child = self._start()
        if self.over.is_set():
            child.kill()
        assert child.stdout is not None
        while (frame := read_frame(child.stdout)) is not None:
            self._take(*frame)
        child.stdout.close()
        log = Path(self.settings["folder"]) / "node.log"
        return f"the connecting process has ended (exit {child.wait()}, log: {log})"

    def _start(self) -> subprocess.Popen[bytes]:
        folder = Path(self.settings["folder"])
        variables = flower_variables(folder / "flower")
        with (folder / "node.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "fedmosaic.engines.flower.node"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=child_environment(variables),
                start_new_session=True,
            )
        with self.lock:
            self.child = child
        self._send(self.settings)
        return child

    def _take(self, header: Header, body: bytes) -> None:
        if "request" in header:
            self._take_request(header["request"], body)
        elif "sent" in header:
            self.answers.pop(header["sent"], None)
        else:
            self._take_event(header)

    def _take_request(self, request: str, payload: bytes) -> None:
        """Queue a request, or send its answer another time to a new child."""
        if request not in self.seen:
            self.seen.add(request)
            self.requests.put((request, payload))
        elif request in self.answers:
            self._send_answer(request)

    def _made(self, payload: bytes) -> tuple[bytes, str]:
        """Return the answer to a request, or the error with which the request comes back."""
        try:
            return self.answer(payload), ""
        except LinkError as error:
            return b"", str(error)

    def _send_answer(self, request: str) -> None:
        found, error = self.answers[request]
        self._send({"answer": request, "error": error}, found)

    def _take_event(self, header: Header) -> None:
        server = self.settings["server"]
        match header["event"]:
            case "connected":
                self.lost_since = None
                self.on_event(f"connected to {server}")
                if abs(header["clock"]) > CLOCK_SECONDS:
                    way = "behind" if header["clock"] > 0 else "ahead of"
                    seconds = abs(header["clock"])
                    self.on_event(f"this machine's clock is {seconds:.0f} s {way} the server's")
            case "lost":
                self._lose()
                self.on_event(f"{header['reason']}; trying again in {header['pause']:.0f} s")
            case "warning":
                self.on_event(header["reason"])
            case "refused":
                self._end(SiteError(header["reason"]))
            case "failed":
                self._end(ConfigError(header["reason"]))

    def _send(self, header: Header, body: bytes = b"") -> None:
        """Send to the child; where it has ended, the next one asks for what is not sent."""
        with self.lock:
            if self.child is not None and self.child.stdin is not None:
                with contextlib.suppress(OSError, ValueError):
                    write_frame(self.child.stdin, header, body)

    def _lose(self) -> None:
        if self.lost_since is None:
            self.lost_since = time.monotonic()

    def _check_patience(self) -> None:
        since = self.lost_since
        if self.patience is not None and since is not None:
            waited = time.monotonic() - since
            if waited > self.patience:
                server = self.settings["server"]
                self._end(LinkError(f"no connection to {server} for {waited:.0f} s"))

    def _end(self, error: Exception) -> None:
        self.failed = error
        self.over.set()

    def _stop(self, watch: threading.Thread) -> None:
        """Let the child send what it has and leave, which may take a moment."""
        self.stopping = True
        self._send({"stop": True})
        end = time.monotonic() + STOP_SECONDS
        while self.answers and self.failed is None and time.monotonic() < end:
            time.sleep(0.05)
        self.over.set()
        watch.join(timeout=STOP_SECONDS if self.failed is None and self.lost_since is None else 0)

    def _kill(self) -> None:
        """End the child; it leaves by itself if it is connected and has nothing more to send."""
        self._send({"stop": True})
        with self.lock:
            if self.child is None:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(timeout=LEAVE_SECONDS if self.lost_since is None else 0)
            self.child.kill()
            self.child.wait()
            if self.child.stdin is not None:
                with contextlib.suppress(OSError):
                    self.child.stdin.close()
