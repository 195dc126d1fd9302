"""Answer the requests of a run's main process, in a process that holds clients.

A request and an answer are each a JSON header and one block of bytes. An error is an answer, too.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from fedmosaic import errors
from fedmosaic.errors import FedMosaicError
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.introduce import write_introductions
from fedmosaic.federation.transport import InProcess
from fedmosaic.frames import Header


def answers(
    clients: Callable[[], InProcess], header: Header, body: bytes
) -> Iterator[tuple[Header, bytes]]:
    """Yield the answers to a request: one for each client that works, else a single one.

    Args:
        clients: returns the clients of this process; its errors are answers, too.
        header: what to do: ``introduce``, ``work``, ``load`` or ``save_adapters``.
        body: the downloads of the clients that work, one after another.
    """
    try:
        yield from _answers(clients(), header, body)
    except Exception as error:
        yield described(error), b""


def described(error: Exception) -> Header:
    """Return an error as an answer: of this package or of a file in one line, others in full."""
    if isinstance(error, FedMosaicError):
        return {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return {"error": "OSError", "message": f"{error.strerror}{place}"}
    return {"error": "RuntimeError", "message": traceback.format_exc()}


def require_no_error(header: Header) -> None:
    """Raise the error that an answer reports, if it reports one."""
    if "error" in header:
        file = OSError if header["error"] == "OSError" else RuntimeError
        kind = getattr(errors, header["error"], file)
        raise kind(header["message"])


def _answers(clients: InProcess, header: Header, body: bytes) -> Iterator[tuple[Header, bytes]]:
    match header["do"]:
        case "introduce":
            yield write_introductions(clients.introduce()), b""
        case "work":
            asked = {name: Instructions(**one) for name, one in header["instructions"].items()}
            ends = list(itertools.accumulate(header["sizes"], initial=0))
            downloads = {
                name: body[start:end]
                for name, (start, end) in zip(asked, itertools.pairwise(ends), strict=True)
            }
            for _, result in clients.exchange(asked, downloads):
                answer = {"update": result.update is not None, "result": result.to_json()}
                yield answer, result.update or b""
        case action:
            getattr(clients, action)(Path(header["folder"]))
            yield {}, b""
