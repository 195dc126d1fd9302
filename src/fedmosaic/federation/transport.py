"""Define how the server reaches its clients, and reach those of the same process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from fedmosaic.federation.client_store import ClientStore
from fedmosaic.federation.grouping import groups_of
from fedmosaic.federation.instructions import ClientResult, Instructions, Introduction
from fedmosaic.federation.placement import describe
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.together import Together


class Transport(Protocol):
    """Reach the clients of a federation."""

    def introduce(self) -> dict[str, Introduction]:
        """Return every client's introduction by name, in roster order."""

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        """Send instructions and downloads; yield each client's name and result in roster order."""

    def placement(self) -> dict[str, Any] | None:
        """Return what carries adapters in each model; None where the models are elsewhere."""

    def save(self, folder: Path) -> Callable[[], None]:
        """Note the state of every client that has trained.

        Returns:
            a function that writes it into a folder and ends when it is there. It is called once,
            perhaps on another thread, while the clients go on; until it has ended, nothing else is
            saved.
        """

    def load(self, folder: Path) -> None:
        """Restore every client's state from a folder."""

    def save_adapters(self, folder: Path) -> None:
        """Write the adapters of every client that has trained into ``folder/<client>``."""

    def close(self) -> None:
        """Release processes and connections."""


class InProcess:
    """Run clients in this process, one after another.

    Downloads and updates pass through the wire format all the same.

    Args:
        runtime: what the clients share.
        names: the clients to run; None for all.
        folder: where the state of clients that are not in memory is kept; None: in the system's
            folder for temporary files.

    Attributes:
        clients: makes the clients for their turns.
    """

    def __init__(
        self, runtime: Runtime, names: set[str] | None = None, folder: Path | None = None
    ) -> None:
        runtime.unseen()  # a wrong name is an error now, not at the first evaluation
        self.clients = ClientStore(runtime, names, folder, runtime.scenario.clients_in_memory)
        self.runtime = runtime
        self._together = Together(runtime)

    def introduce(self) -> dict[str, Introduction]:
        return self.clients.introduce()

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        roster = [name for name in self.clients if name in instructions]
        ready: dict[str, ClientResult] = {}
        for group in groups_of(self.runtime, roster, instructions):
            members = [self.clients[name] for name in group]
            ready |= self._together.work(members, instructions, downloads)
            self.clients.trim()
            while roster and roster[0] in ready:
                yield roster[0], ready.pop(roster.pop(0))

    def placement(self) -> dict[str, Any] | None:
        return describe(self.runtime)

    def save(self, folder: Path) -> Callable[[], None]:
        return self.clients.save(folder)

    def load(self, folder: Path) -> None:
        self.clients.load(folder)

    def save_adapters(self, folder: Path) -> None:
        for name in self.clients.trained:
            self.clients[name].save_adapter(folder / name)
            self.clients.trim()

    def close(self) -> None:
        self.clients.clear()
