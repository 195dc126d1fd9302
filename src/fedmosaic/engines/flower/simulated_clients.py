"""Reach the clients of a run in Flower's simulation."""

from __future__ import annotations

import io
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fedmosaic.distributed.link import Delivery, Link
from fedmosaic.engines.flower.client_app import write_settings
from fedmosaic.engines.flower.simulation import LOG, Simulation
from fedmosaic.errors import FedMosaicError, listed
from fedmosaic.federation.answers import require_no_error
from fedmosaic.federation.grouping import groups_of
from fedmosaic.federation.instructions import ClientResult, Instructions, Introduction
from fedmosaic.federation.introduce import read_introductions
from fedmosaic.federation.placement import describe
from fedmosaic.federation.resources import cards, choose_workers
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.shared_store import SharedStore
from fedmosaic.frames import Header, read_frame, write_frame

Frames = list[tuple[Header, bytes]]
AHEAD = 4
"""Requests for each process that are under way, or whose results wait for an earlier client's."""

LONGEST_TURN = 365 * 24 * 3600.0
"""Seconds after which Flower drops a request; a process that is gone is noticed at once."""


_given: ContextVar[Link | None] = ContextVar("link", default=None)


@contextmanager
def over_link(link: Link) -> Iterator[None]:
    """Let runs inside the block reach their clients over a link that is there already."""
    token = _given.set(link)
    try:
        yield
    finally:
        _given.reset(token)


def simulate(runtime: Runtime, states: Path) -> SimulatedClients:
    """Start Flower's simulation with one virtual node for each client of a run.

    Args:
        runtime: what the clients share; the processes load it again.
        states: the state of the clients is kept here, in a folder of its own.
    """
    settings = runtime.settings
    clients, processes = settings.scenario.clients, choose_workers(settings)
    count = len(cards(settings.scenario.models))
    link = _given.get() or Simulation(len(clients), processes, count, states.parent / LOG)
    try:
        return SimulatedClients(runtime, link, states, processes)
    except BaseException:
        link.close()
        raise


class SimulatedClients:
    """Send each client's requests to a node of its own; any process may answer for any node.

    Args:
        runtime: the run.
        link: reaches the nodes.
        states: the state of the clients is kept here, in a folder of its own.
        processes: number of processes that answer.
    """

    def __init__(self, runtime: Runtime, link: Link, states: Path, processes: int) -> None:
        self.runtime = runtime
        self.link = link
        self.most = AHEAD * processes
        self.roster = [client.name for client in runtime.scenario.clients]
        nodes = sorted(link.nodes())
        self._nodes = {name: nodes[k % len(nodes)] for k, name in enumerate(self.roster)}
        self._asked: dict[str, Sequence[str]] = {}
        states.mkdir(parents=True, exist_ok=True)
        self.states = Path(tempfile.mkdtemp(dir=states, prefix="clients-")).absolute()
        # A process of Ray would choose other numbers of threads than this one, and other numbers
        # of threads may round otherwise.
        threads = runtime.settings.threads or torch.get_num_threads()
        write_settings(self.states, runtime.settings.model_copy(update={"threads": threads}))

    def introduce(self) -> dict[str, Introduction]:
        found: dict[str, Introduction] = {}
        for (header, _), *_ in self._ask_each(self.roster, {"do": "introduce"}):
            found |= read_introductions(header)
        return {name: found[name] for name in self.roster}

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        roster = [name for name in self.roster if name in instructions]
        groups = deque(groups_of(self.runtime, roster, instructions))
        ready: dict[str, ClientResult] = {}
        for name in roster:
            while name not in ready:
                while groups and (not self._asked or len(self._asked) + len(ready) < self.most):
                    self._ask_to_work(groups.popleft(), instructions, downloads)
                for names, frames in self._received():
                    for member, (header, body) in zip(names, frames, strict=True):
                        update = body if header["update"] else None
                        ready[member] = ClientResult.from_json(header["result"], update)
            yield name, ready.pop(name)

    def placement(self) -> dict[str, Any] | None:
        return describe(self.runtime)

    def save(self, folder: Path) -> Callable[[], None]:
        return self._store().save(folder)

    def load(self, folder: Path) -> None:
        for _ in self._ask_each(self.roster, {"do": "load", "folder": str(folder.absolute())}):
            pass

    def save_adapters(self, folder: Path) -> None:
        header = {"do": "save_adapters", "folder": str(folder.absolute())}
        for _ in self._ask_each(self._store().trained, header):
            pass

    def close(self) -> None:
        self.link.close()
        shutil.rmtree(self.states, ignore_errors=True)

    def _store(self) -> SharedStore:
        return SharedStore(self.runtime, self.states)

    # --- requests -----------------------------------------------------------------------------
    def _ask_to_work(
        self,
        names: Sequence[str],
        instructions: Mapping[str, Instructions],
        downloads: Mapping[str, bytes],
    ) -> None:
        bodies = [downloads[name] for name in names]
        header = {
            "do": "work",
            "instructions": {name: asdict(instructions[name]) for name in names},
            "sizes": [len(body) for body in bodies],
        }
        self._ask(names, header, b"".join(bodies))

    def _ask_each(self, names: Sequence[str], header: Header) -> Iterator[Frames]:
        """Ask each client for the same, a few at a time; yield the answers as they come."""
        waiting = deque(names)
        while waiting or self._asked:
            while waiting and len(self._asked) < self.most:
                self._ask([waiting.popleft()], header)
            for _, frames in self._received():
                yield frames

    def _ask(self, names: Sequence[str], header: Header, body: bytes = b"") -> None:
        request = io.BytesIO()
        where = {"states": str(self.states), "clients": list(names)}
        write_frame(request, {**header, **where}, body)
        sent = self.link.send(self._nodes[names[0]], request.getvalue(), LONGEST_TURN)
        self._asked[sent] = names

    def _received(self) -> Iterator[tuple[Sequence[str], Frames]]:
        """Wait a moment for answers; yield who was asked, and the answer's frames."""
        for delivery in self.link.receive(timeout=1.0):
            names = self._asked.pop(delivery.request)
            yield names, _frames(names, delivery)


def _frames(names: Sequence[str], delivery: Delivery) -> Frames:
    """Return the frames of an answer; raise the error that it reports."""
    if delivery.error:
        raise FedMosaicError(
            f"the process of client {listed(names)} ended unexpectedly, perhaps for lack of "
            f"memory; continue with `fedmosaic run --resume`. Flower says: {delivery.error}"
        )
    stream, frames = io.BytesIO(delivery.payload), []
    while (found := read_frame(stream)) is not None:
        require_no_error(found[0])
        frames.append(found)
    noted, _ = frames.pop()
    for text in noted["warnings"]:
        warnings.warn(text, stacklevel=2)
    return frames
