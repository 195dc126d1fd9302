"""Stand between a site and its server, and drop what passes for a while."""

from __future__ import annotations

import contextlib
import socket
import threading


class DroppingProxy:
    """Pass bytes on to a port of this machine, or swallow them while it is cut.

    Attributes:
        port: where it listens.
        taken: bytes that passed it, in both directions.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.taken = 0
        self.whole = threading.Event()
        self.whole.set()
        self._open: list[socket.socket] = []  # so that none is closed, which the other end sees
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

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
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.whole.is_set():
                    return  # and the other end waits
                self.taken += len(data)
                target.sendall(data)
        if self.whole.is_set():
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
