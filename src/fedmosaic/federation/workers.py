"""Clients spread over several processes of one machine: the same numbers as in one process, sooner.

Each worker is this module run by a fresh interpreter (``python -m fedmosaic.federation.workers``). It owns some of the clients and
answers requests on its standard input: a JSON header and one block of bytes each way. A worker whose parent is gone ends itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from fedmosaic import errors
from fedmosaic.config import RunSettings
from fedmosaic.errors import FedMosaicError
from fedmosaic.evaluation import Record
from fedmosaic.federation.client import ClientResult, Instructions
from fedmosaic.federation.runtime import Runtime, prepare_torch
from fedmosaic.federation.transport import InProcess

Header = dict[str, Any]


class Workers:
    """A transport over ``count`` worker processes; client k lives in worker k mod count.

    A client's own seeds decide its numbers, so they do not depend on ``count``.
    """

    def __init__(self, runtime: Runtime, count: int) -> None:
        self.roster = [client.name for client in runtime.scenario.clients]
        self.owner = {name: index % count for index, name in enumerate(self.roster)}
        settings = runtime.settings.model_dump_json()
        self.workers = [
            _Worker(settings, [name for name in self.roster if self.owner[name] == index])
            for index in range(count)
        ]

    def introduce(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for header, _ in self._all({"do": "introduce"}):
            found |= header["introductions"]
        return {name: found[name] for name in self.roster}

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        ready: queue.Queue[tuple[str, ClientResult | BaseException]] = queue.Queue()

        def serve(worker: _Worker) -> None:
            for name in worker.clients:
                if name in instructions:
                    try:
                        header, body = worker.ask(
                            {
                                "do": "work",
                                "client": name,
                                "instruction": asdict(instructions[name]),
                            },
                            downloads[name],
                        )
                        records = [Record(**record) for record in header["records"]]
                        update = body if header["update"] else None
                        ready.put(
                            (
                                name,
                                ClientResult(update, header["failure"], records, header["report"]),
                            )
                        )
                    except BaseException as error:  # handed to the thread that waits for it
                        ready.put((name, error))
                        return

        threads = [
            threading.Thread(target=serve, args=(worker,), daemon=True) for worker in self.workers
        ]
        for thread in threads:
            thread.start()
        waiting: dict[str, ClientResult] = {}
        for name in [name for name in self.roster if name in instructions]:
            while name not in waiting:
                found, result = ready.get()
                if isinstance(result, BaseException):
                    raise result
                waiting[found] = result
            yield name, waiting.pop(name)
        for thread in threads:
            thread.join()

    def save(self, folder: Path) -> None:
        self._all({"do": "save", "folder": str(folder)})

    def load(self, folder: Path) -> None:
        self._all({"do": "load", "folder": str(folder)})

    def save_adapters(self, folder: Path) -> None:
        self._all({"do": "save_adapters", "folder": str(folder)})

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def _all(self, header: Header) -> list[tuple[Header, bytes]]:
        for worker in self.workers:
            worker.send(header)
        return [worker.receive() for worker in self.workers]


class _Worker:
    """One worker process and the pipe to it."""

    def __init__(self, settings: str, clients: Sequence[str]) -> None:
        self.clients = list(clients)
        command = [sys.executable, "-m", "fedmosaic.federation.workers"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.send({"settings": settings, "clients": self.clients})

    def ask(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        self.send(header, body)
        return self.receive()

    def send(self, header: Header, body: bytes = b"") -> None:
        assert self.process.stdin is not None
        try:
            _write(self.process.stdin, header, body)
        except OSError as error:
            raise self._died() from error

    def receive(self) -> tuple[Header, bytes]:
        assert self.process.stdout is not None
        found = _read(self.process.stdout)
        if found is None:
            raise self._died()
        header, body = found
        if "error" in header:
            kind = getattr(errors, header["error"], RuntimeError)
            raise kind(header["message"])
        return header, body

    def close(self) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):  # what could not be sent to a dead worker
                self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _died(self) -> FedMosaicError:
        return FedMosaicError(
            f"the worker process of clients {', '.join(self.clients)} ended unexpectedly (exit {self.process.poll()}), perhaps for "
            "want of memory; continue with `fedmosaic run --resume`, or with fewer --workers"
        )


def _write(stream: IO[bytes], header: Header, body: bytes = b"") -> None:
    text = json.dumps(header).encode()
    stream.write(struct.pack("<QQ", len(text), len(body)))
    stream.write(text)
    stream.write(body)
    stream.flush()


def _read(stream: IO[bytes]) -> tuple[Header, bytes] | None:
    lengths = stream.read(16)
    if len(lengths) < 16:
        return None
    text, body = struct.unpack("<QQ", lengths)
    header = stream.read(text)
    content = stream.read(body)
    return (json.loads(header), content) if len(content) == body and len(header) == text else None


def _serve(requests: IO[bytes], results: IO[bytes]) -> None:
    first = _read(requests)
    if first is None:
        return
    settings = RunSettings.model_validate_json(first[0]["settings"])
    clients: InProcess | None = None
    while (request := _read(requests)) is not None:
        header, body = request
        try:
            if clients is None:
                prepare_torch(settings)
                clients = InProcess(Runtime(settings), set(first[0]["clients"]))
            _write(results, *_answer(clients, header, body))
        except FedMosaicError as error:
            _write(results, {"error": type(error).__name__, "message": str(error)})
        except Exception:
            _write(results, {"error": "RuntimeError", "message": traceback.format_exc()})


def _answer(clients: InProcess, header: Header, body: bytes) -> tuple[Header, bytes]:
    match header["do"]:
        case "introduce":
            return {"introductions": clients.introduce()}, b""
        case "work":
            result = clients.clients[header["client"]].work(
                Instructions(**header["instruction"]), body
            )
            records = [asdict(record) for record in result.records]
            told = {
                "update": result.update is not None,
                "failure": result.failure,
                "report": result.report,
            }
            return {**told, "records": records}, result.update or b""
        case action:
            getattr(clients, action)(Path(header["folder"]))
            return {}, b""


def main() -> None:
    """Serve the parent until its end of the pipe closes."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to the terminal, not between the results
    with contextlib.suppress(
        KeyboardInterrupt, BrokenPipeError
    ):  # the parent says what happened, or is gone
        _serve(sys.stdin.buffer, results)


if __name__ == "__main__":
    main()
