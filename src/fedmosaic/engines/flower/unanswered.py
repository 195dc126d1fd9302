"""Store the requests that a node has taken and not yet answered, so that none is lost with it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from fedmosaic.files import write_atomic
from fedmosaic.frames import read_frame, write_frame


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
        digest = _digest(raw.hex(), content)
        header = {"raw": raw.hex(), "content": payload is not None, "digest": digest}
        path = self._path(request)
        part = path.with_suffix(".part")
        # A process that is killed leaves what is here. Waiting for the disk would help only after
        # a loss of power, when the server has given the request up before this machine is back.
        try:
            with part.open("wb") as stream:
                write_frame(stream, header, content)
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)  # a disk that is full
            raise

    def all(self) -> list[tuple[bytes, bytes | None]]:
        """Return all requests, the earliest first, as they were added."""
        found: list[tuple[bytes, bytes | None]] = []
        for path in sorted(self.folder.glob("*.request"), key=os.path.getmtime):
            try:
                with path.open("rb") as stream:
                    frame = read_frame(stream)
            except (ValueError, MemoryError):
                frame = None
            if frame is None or _digest(frame[0]["raw"], frame[1]) != frame[0]["digest"]:
                path.unlink()  # cut short, by a loss of power
                continue
            header, content = frame
            found.append((bytes.fromhex(header["raw"]), content if header["content"] else None))
        return found

    def remove(self, request: str) -> None:
        """Remove a request that was answered."""
        self._path(request).unlink(missing_ok=True)

    def _path(self, request: str) -> Path:
        assert request.isalnum(), request
        return self.folder / f"{request}.request"


def _digest(raw: str, content: bytes) -> str:
    found = hashlib.sha256(raw.encode())
    found.update(content)
    return found.hexdigest()
