"""Ask a server, before anything else, whether it is one and whether it knows this key.

What retrying cannot mend is found here, and told apart from a server that is not there now.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass

from fedmosaic.engines.flower.front import HELLO
from fedmosaic.errors import LinkError, SiteError

SECONDS = 10.0
NOT_YET_VALID, EXPIRED, WRONG_NAME, WRONG_ADDRESS = 9, 10, 62, 64


@dataclass(frozen=True)
class Greeting:
    """Hold what a server says of itself.

    Attributes:
        seen: seconds since this key was used; None if it never was.
        clock: seconds that its clock is ahead of this machine's.
        max_bytes: largest answer that it takes.
    """

    seen: float | None
    clock: float
    max_bytes: int


def greet(server: str, context: ssl.SSLContext | None, public_key: bytes, ca: str = "") -> Greeting:
    """Greet a server.

    Args:
        server: ``HOST:PORT``.
        context: how to recognise it; None for plain text.
        public_key: this node's public key (PEM).
        ca: file with the authority's certificate, for messages.

    Raises:
        LinkError: it cannot be reached now.
        SiteError: it is another server, or does not know this key.
    """
    try:
        status, body, clock = _ask(server, context, public_key)
    except ssl.SSLCertVerificationError as error:
        raise SiteError(_certificate_fault(server, error, ca)) from error
    except ssl.SSLError as error:
        if "WRONG_VERSION" in str(error) or "RECORD" in str(error).upper():
            raise SiteError(
                f"{server} speaks plain text, and this client expects TLS: the server was started "
                "with --insecure, or another program listens there"
            ) from error
        raise LinkError(f"the TLS connection to {server} failed: {error.reason}") from error
    except (http.client.HTTPException, ConnectionResetError) as error:
        if context is None and _speaks_tls(server):
            raise SiteError(
                f"{server} expects TLS, and this client speaks plain text: leave out --insecure"
            ) from error
        raise LinkError(f"{server} broke the connection off") from error
    except TimeoutError as error:
        raise LinkError(f"cannot reach {server}: no answer in time") from error
    except OSError as error:
        raise LinkError(f"cannot reach {server}: {error.strerror or error}") from error
    return _read(server, status, body, clock)


def split_address(server: str) -> tuple[str, int]:
    """Split ``HOST:PORT``, where an IPv6 address stands in brackets."""
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


def _ask(
    server: str, context: ssl.SSLContext | None, public_key: bytes
) -> tuple[int, bytes, float]:
    host, port = split_address(server)
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    with contextlib.closing(connection):
        key = base64.b64encode(public_key).decode()
        connection.request("GET", HELLO, headers={"flwr-public-key": key})
        sent = time.time()
        response = connection.getresponse()
        body = response.read(10_000)
        return response.status, body, (sent + time.time()) / 2


def _read(server: str, status: int, body: bytes, clock: float) -> Greeting:
    try:
        found = json.loads(body)
        if status != 200 or found["fedmosaic"] != 1:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        if status in (502, 503, 504):  # of a proxy before it
            raise LinkError(f"{server} answers with status {status}") from None
        raise SiteError(f"{server} is no fedmosaic server of this version") from None
    if not found["registered"]:
        raise SiteError(
            f"{server} does not know this client's key: its owner adds it with `fedmosaic keys DIR "
            "--add NAME`, and gives you the folder that this makes"
        )
    return Greeting(found["seen"], found["time"] - clock, found["max_bytes"])


def _certificate_fault(server: str, error: ssl.SSLCertVerificationError, ca: str) -> str:
    now = time.strftime("%Y-%m-%d", time.gmtime())
    match error.verify_code:
        case code if code == EXPIRED:
            return (
                f"the certificate of {server} has expired, and this machine's clock says {now}: "
                "the server's owner makes new keys, or the clock is wrong"
            )
        case code if code == NOT_YET_VALID:
            return (
                f"the certificate of {server} is not valid yet, and this machine's clock says "
                f"{now}: set the clock"
            )
        case code if code in (WRONG_NAME, WRONG_ADDRESS):
            host = split_address(server)[0]
            return (
                f"the certificate of {server} is not for {host!r}: its owner makes keys with "
                f"`fedmosaic keys ... --host {host}`, or use a name that it is for"
            )
    return (
        f"{server} is not the server of this federation: its certificate was not signed by the "
        f"authority in {ca}"
    )


def _speaks_tls(server: str) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(split_address(server), timeout=SECONDS) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except OSError:
        return False
