"""Define the messages between the server and a site: a JSON header and one block of bytes.

::

    FMSC | version, 2 bytes | length of the header, 4 bytes | header, JSON | body

The body is a packed message, a published pivot, or empty. Nothing else travels.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fedmosaic.errors import UpdateError

MAGIC = b"FMSC"
VERSION = 1
FRAME = struct.Struct("<4sHI")
HEADER_LIMIT = 64 << 20
SIZE_LIMIT = 8 << 30

Kind = Literal["hello", "publish", "prepare", "turn", "inquire", "finish"]


@dataclass(frozen=True)
class SiteRequest:
    """Ask a site for something.

    Attributes:
        kind: ``hello`` who are you, ``publish`` the pivot's numbers, ``prepare`` for the run,
            ``turn`` take part in a round, ``inquire`` what became of a turn, ``finish`` the run.
        session: id of the run, which the server draws when it begins.
        header: plain values.
        body: a download or a published pivot.
    """

    kind: Kind
    session: str
    header: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class SiteResponse:
    """Answer a request.

    Attributes:
        kind: of the request.
        session: of the request.
        header: plain values.
        body: an update or a published pivot.
        error: what is wrong, for people; empty where the request was done.
        reason: name of the kind of error, for programs; empty where there is none.
    """

    kind: Kind
    session: str
    header: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""
    reason: str = ""


def encode(message: SiteRequest | SiteResponse) -> bytes:
    """Return a message as bytes."""
    plain = {name: value for name, value in vars(message).items() if name != "body"}
    header = json.dumps(plain, sort_keys=True).encode()
    return b"".join((FRAME.pack(MAGIC, VERSION, len(header)), header, message.body))


def decode_request(payload: bytes, limit: int = SIZE_LIMIT) -> SiteRequest:
    """Return the request in ``payload``. Raises UpdateError as :func:`decode_response`."""
    header, body = _decode(payload, limit)
    with _complete():
        return SiteRequest(_kind(header), str(header["session"]), _values(header), body)


def decode_response(payload: bytes, limit: int = SIZE_LIMIT) -> SiteResponse:
    """Return the reply in ``payload``.

    Args:
        payload: bytes of :func:`encode`.
        limit: the most bytes that are accepted.

    Raises:
        UpdateError: more bytes than that, another version, or not a message.
    """
    header, body = _decode(payload, limit)
    with _complete():
        return SiteResponse(
            _kind(header),
            str(header["session"]),
            _values(header),
            body,
            str(header["error"]),
            str(header["reason"]),
        )


def digest(*parts: bytes | str) -> str:
    """Return a hash of some parts, 32 hexadecimal digits."""
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        made.update(len(raw).to_bytes(8, "little"))
        made.update(raw)
    return made.hexdigest()


def _decode(payload: bytes, limit: int) -> tuple[dict[str, Any], bytes]:
    if len(payload) > limit:
        raise UpdateError(f"the message has {len(payload):,} bytes; at most {limit:,} are accepted")
    if len(payload) < FRAME.size:
        raise UpdateError("the message is cut off")
    magic, version, length = FRAME.unpack_from(payload)
    if magic != MAGIC:
        raise UpdateError("it is not a fedmosaic message")
    if version != VERSION:
        raise UpdateError(
            f"the message has version {version} of the protocol, here it is {VERSION}: install the "
            "same version of fedmosaic at the server and at every site"
        )
    if length > HEADER_LIMIT or FRAME.size + length > len(payload):
        raise UpdateError("the header of the message is cut off or too long")
    end = FRAME.size + length
    try:
        header = json.loads(payload[FRAME.size : end])
    except (ValueError, RecursionError) as error:
        raise UpdateError(f"the header of the message cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise UpdateError("the header of the message is no mapping")
    return header, bytes(memoryview(payload)[end:])


@contextmanager
def _complete() -> Iterator[None]:
    """Report missing or wrong fields of a header as an UpdateError."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise UpdateError(f"the header of the message is incomplete: {error}") from error


def _kind(header: Mapping[str, Any]) -> Kind:
    kind = header["kind"]
    if kind not in get_args(Kind):
        raise UpdateError(f"the message is of an unknown kind: {str(kind)[:40]!r}")
    found: Kind = kind
    return found


def _values(header: Mapping[str, Any]) -> dict[str, Any]:
    values = header["header"]
    if not isinstance(values, dict):
        raise TypeError("its values are no mapping")
    return values


def turn_key(request: SiteRequest) -> str:
    """Return the hash that identifies a turn: run, round, instructions and download."""
    instructions = json.dumps(request.header["instructions"], sort_keys=True)
    return digest(request.session, str(request.header["round"]), instructions, request.body)


def challenge_of(session: str, nonce: str, name: str) -> bytes:
    """Return what a site signs to prove its name: run, the server's random number and name."""
    return digest("fedmosaic hello", session, nonce, name).encode()
