"""Keep the state of clients in one folder, from which any process of the machine continues them."""

from __future__ import annotations

import os
from pathlib import Path

from fedmosaic.federation.client_store import ClientStore
from fedmosaic.federation.runtime import Runtime


class SharedStore(ClientStore):
    """Read a client's file before its turn, and write a new one after it; none stays in memory.

    At most one process at a time may work for a client.

    Args:
        runtime: what the clients share.
        folder: the files of all clients that have trained; it exists.
        names: the clients of this store; None for all of the scenario.

    Attributes:
        states: the folder.
    """

    def __init__(self, runtime: Runtime, folder: Path, names: set[str] | None = None) -> None:
        super().__init__(runtime, names, folder, limit=0)
        self.states = folder
        self._introduced = True
        self._written = {name for name in self.specs if self._file(name).exists()}

    def _file(self, name: str) -> Path:
        return self.states / f"{name}.safetensors"

    def _write(self, name: str) -> None:
        client = self._present[name]
        if client.changed:
            new = self._file(name).with_suffix(".new")
            client.save(new)
            os.replace(new, self._file(name))  # checkpoints may link to the old one
            client.changed = False
            self._written.add(name)

    def clear(self) -> None:
        self._present, self._written = {}, set()
        for name in self.specs:
            self._file(name).unlink(missing_ok=True)
