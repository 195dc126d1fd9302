"""Store the requests that a node has taken and not yet answered, so that none is lost with it."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

from fedmosaic.files import write_atomic

LENGTH = struct.Struct("<Q")


class Unanswered:
    """Keep requests in a folder, each in a file, for one connection to a server.

    Args:
        folder: the folder, which is created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._node = folder / "node.json"

    def node(self, server: str) -> int:
        """Return this node's id at a server, as it was last; 0 if it had none."""
        try:
            found = json.loads(self._node.read_text())
        except (OSError, ValueError):
            return 0
        return int(found["node"]) if found["server"] == server else 0

    def begin(self, server: str, node: int) -> None:
        """Note a new id; requests for an earlier one are void."""
        for path in self.folder.glob("*.request"):
            path.unlink()
        write_atomic(self._node, json.dumps({"server": server, "node": node}))

    def add(self, request: str, raw: bytes, payload: bytes | None) -> None:
        """Store a request.

        Args:
            request: its id.
            raw: what the server sent for it.
            payload: its content; None if that is still at the server.
        """
        content = b"" if payload is None else payload
        header = LENGTH.pack(len(raw)) + bytes([payload is not None])
        write_atomic(self._path(request), header + raw + content)

    def all(self) -> list[tuple[bytes, bytes | None]]:
        """Return all requests, the earliest first, as they were added."""
        found: list[tuple[bytes, bytes | None]] = []
        for path in sorted(self.folder.glob("*.request"), key=os.path.getmtime):
            data = memoryview(path.read_bytes())
            start = LENGTH.size + 1
            (length,) = LENGTH.unpack(data[: LENGTH.size])
            raw, content = bytes(data[start : start + length]), bytes(data[start + length :])
            found.append((raw, content if data[LENGTH.size] else None))
        return found

    def remove(self, request: str) -> None:
        """Remove a request that was answered."""
        self._path(request).unlink(missing_ok=True)

    def _path(self, request: str) -> Path:
        assert request.isalnum(), request
        return self.folder / f"{request}.request"
