"""How instructions reach clients: the interface of a transport, and the in-process one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from fedmosaic.federation.client import ClientResult, Instructions, LocalClient
from fedmosaic.federation.runtime import Runtime


class Transport(Protocol):
    """What the round loop needs of an engine."""

    def introduce(self) -> dict[str, dict[str, Any]]:
        """Every client's introduction, by name (see :meth:`LocalClient.introduce`)."""

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        """Send instructions and downloads out; yield (client, result) in roster order."""

    def save(self, folder: Path) -> None:
        """Write every client's state into a folder."""

    def load(self, folder: Path) -> None:
        """Bring every client back to a saved state."""

    def save_adapters(self, folder: Path) -> None:
        """Write every client's adapter into ``folder/<client>``."""

    def close(self) -> None:
        """End whatever the transport started."""


class InProcess:
    """All clients in this process, one after another. Downloads and updates still pass through the wire format."""

    def __init__(self, runtime: Runtime, names: set[str] | None = None) -> None:
        runtime.unseen()  # a wrong name is told now, not at the first evaluation
        specs = enumerate(runtime.scenario.clients)
        self.clients = {
            spec.name: LocalClient(runtime, spec, index)
            for index, spec in specs
            if names is None or spec.name in names
        }

    def introduce(self) -> dict[str, dict[str, Any]]:
        return {name: client.introduce() for name, client in self.clients.items()}

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        for name, client in self.clients.items():
            if name in instructions:
                yield name, client.work(instructions[name], downloads[name])

    def save(self, folder: Path) -> None:
        for name, client in self.clients.items():
            client.save(folder / f"{name}.safetensors")

    def load(self, folder: Path) -> None:
        for name, client in self.clients.items():
            client.load(folder / f"{name}.safetensors")

    def save_adapters(self, folder: Path) -> None:
        for name, client in self.clients.items():
            client.save_adapter(folder / name)

    def close(self) -> None:
        self.clients = {}
