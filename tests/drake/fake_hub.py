"""Serve archives as the Hugging Face Hub does, as far as ``huggingface_hub`` asks for them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class FakeHub:
    """Hold what the server has and what was asked of it.

    Attributes:
        files: content by path in the repository.
        stated: paths whose stated SHA-256 is of other content.
        cut: for the next requests of content, the bytes after which the connection is closed.
        ranges: the ranges of content that were asked for.
        status: the HTTP status of every answer; 200: as it should be.
        knows_ranges: whether a range is answered with a range.
        page: a page that a network in between sends in place of every answer.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.stated: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.ranges: list[str] = []
        self.requests: list[str] = []
        self.status = 200
        self.knows_ranges = True
        self.page = b""
        self.address = ""

    def tree(self) -> list[dict[str, Any]]:
        entries = []
        for path, content in self.files.items():
            oid = hashlib.sha256(self.stated.get(path, content)).hexdigest()
            lfs = {"oid": oid, "size": len(content), "pointerSize": 134}
            entry = {"type": "file", "path": path, "size": len(content), "oid": oid[:40]}
            entries.append(entry | ({"lfs": lfs} if path.endswith(".tar") else {}))
        return entries


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve a hub on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.requests.append(self.path)
            path = self.path.partition("?")[0]
            if hub.page:
                return self.reply(200, hub.page)
            if hub.status != 200:
                return self.reply(hub.status, b"{}")
            if path.startswith("/api/datasets/SNUMPR/DRAKE/tree/"):
                return self.reply(200, json.dumps(hub.tree()).encode())
            if path.startswith("/api/datasets/SNUMPR/DRAKE"):
                content = {"id": "SNUMPR/DRAKE", "sha": COMMIT, "tags": [], "siblings": []}
                return self.reply(200, json.dumps(content).encode())
            if path.startswith(f"/datasets/SNUMPR/DRAKE/resolve/{COMMIT}/"):
                name = path.split(f"{COMMIT}/")[1]
                return self.reply(302, b"", {"Location": f"/storage/{name}"})
            if path.startswith("/storage/") and path[9:] in hub.files:
                return self.content(hub.files[path[9:]])
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def content(self, content: bytes) -> None:
            asked = self.headers.get("Range", "")
            hub.ranges.append(asked)
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            status, part = 200, content
            if hub.knows_ranges and (match := RANGE.fullmatch(asked)):
                first, last = int(match[1]), min(int(match[2]), len(content) - 1)
                status, part = 206, content[first : last + 1]
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self.reply(status, part, headers, hub.cut.pop(0) if hub.cut else None)

        def reply(
            self,
            status: int,
            body: bytes,
            headers: Mapping[str, str] | None = None,
            cut: int | None = None,
        ) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])
            self.close_connection = cut is not None

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def archive(members: Mapping[str, bytes], mode: str = "w", links: Mapping[str, str] = {}) -> bytes:
    """Return a tar file with these files, and symbolic links by their targets."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_600_000_000
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return stream.getvalue()


def data_set(name: str, subsets: int = 1, pictures: int = 3, size: int = 5000) -> dict[str, bytes]:
    """Return the files of a data set by their paths in its archive."""
    files = {
        f"{name}/{split}/dataset-{k}.json": b"[]"
        for split in ("train", "test")
        for k in range(subsets)
    }
    pixels = {f"{name}/images/{n}.jpg": bytes([n]) * (size + n) for n in range(pictures)}
    return files | pixels


FILES = {
    "README.md": b"# DRAKE",
    "VSR.tar": archive(data_set("VSR")),
    "NLVR2.tar": archive(data_set("NLVR2", subsets=2)),
    "llava_ft/ocr_vqa.tar": archive(data_set("ocr_vqa")),
}
