"""Answer for the clients of a run, in a process of Flower's simulation.

Any process may take any client's turn. The state of the clients is in files of the run folder;
base models, tasks and adapters stay in the process.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fedmosaic.config import RunSettings
from fedmosaic.config.base import RECORDED
from fedmosaic.engines.flower.records import from_record, to_record
from fedmosaic.federation.answers import answers
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.shared_store import SharedStore
from fedmosaic.federation.transport import InProcess
from fedmosaic.frames import read_frame, write_frame

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

SETTINGS = "run.json"


def make_client_app() -> ClientApp:
    """Return the app that every node of the simulation runs."""
    from flwr.clientapp import ClientApp

    app = ClientApp()
    app.query()(answer_message)
    return app


def answer_message(message: Message, context: Context) -> Message:
    """Return the answer to a request of :class:`.simulated_clients.SimulatedClients`."""
    from flwr.app import Message

    return Message(to_record(answer(from_record(message.content))), reply_to=message)


def answer(request: bytes) -> bytes:
    """Return the answers to a request, as frames, and last a frame with the warnings."""
    found = read_frame(io.BytesIO(request))
    if found is None:
        raise ValueError("a request is cut off")
    header, body = found
    written = io.BytesIO()

    def clients() -> InProcess:
        folder = Path(header["states"])
        present = _clients(folder)
        present.clients = SharedStore(present.runtime, folder, set(header["clients"]))
        return present

    with warnings.catch_warnings(record=True) as noted, broken_off_by_sigterm():
        for reply in answers(clients, header, body):
            write_frame(written, *reply)
    write_frame(written, {"warnings": [_text(note) for note in noted]})
    return written.getvalue()


@contextmanager
def broken_off_by_sigterm() -> Iterator[None]:
    """Let SIGTERM inside the block be an error of the turn, not the end of the process.

    Otherwise Ray reports at length that a process has died.
    """

    def stop(*_: object) -> None:
        raise RuntimeError("the turn was broken off")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _text(note: warnings.WarningMessage) -> str:
    kind = "" if note.category is UserWarning else f"{note.category.__name__}: "
    return f"{kind}{note.message}"


@lru_cache(maxsize=1)
def _clients(folder: Path) -> InProcess:
    """Return what this process keeps for the run whose clients have their states in a folder."""
    content = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    settings = RunSettings.model_validate(content, context=RECORDED)
    logging.getLogger("flwr").setLevel(logging.ERROR)  # it reports its own end
    prepare_torch(settings)
    return InProcess(Runtime(settings), set())


def write_settings(folder: Path, settings: RunSettings) -> None:
    """Write what the processes need to know of a run into the folder of its clients' states."""
    (folder / SETTINGS).write_text(settings.model_dump_json(), encoding="utf-8")
