"""Send a JSON header and one block of bytes over a pipe or a socket of this machine."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

Header = dict[str, Any]
LENGTHS = struct.Struct("<QQ")


def write_frame(stream: IO[bytes], header: Header, body: bytes | memoryview = b"") -> None:
    """Write a header and a block of bytes.

    Raises:
        OSError: the reader is gone.
    """
    text = json.dumps(header).encode()
    stream.write(LENGTHS.pack(len(text), len(body)))
    stream.write(text)
    stream.write(body)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[Header, bytes] | None:
    """Read a header and its block of bytes; None if the writer is gone."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    text, body = LENGTHS.unpack(lengths)
    header = stream.read(text)
    content = stream.read(body)
    return (json.loads(header), content) if len(content) == body and len(header) == text else None
