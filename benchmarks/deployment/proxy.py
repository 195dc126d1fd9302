"""Stand between clients and their server: count what passes, and drop it for a while."""

from __future__ import annotations

import contextlib
import socket
import threading


class DroppingProxy:
    """Pass bytes on to a port of this machine, or swallow them while it is cut.

    Attributes:
        port: where it listens.
        up: bytes that clients sent, all of TLS and HTTP included.
        down: bytes that the server sent.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.up = self.down = 0
        self.whole = threading.Event()
        self.whole.set()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []  # so that none is closed, which the other end sees
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def taken(self) -> int:
        """Bytes that passed in both directions."""
        return self.up + self.down

    def cut(self) -> None:
        """Drop everything, as a cable that is out: connections stay open, and nothing comes."""
        self.whole.clear()

    def mend(self) -> None:
        """Pass on what new connections send; old ones stay dead."""
        self.whole.set()

    def _accept(self) -> None:
        while True:
            near = self._listening.accept()[0]
            self._open.append(near)
            if self.whole.is_set():
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                self._open.append(far)
                for ends in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.whole.is_set():
                    return  # and the other end waits
                with self._lock:
                    self.up += len(data) if up else 0
                    self.down += 0 if up else len(data)
                target.sendall(data)
        if self.whole.is_set():
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
