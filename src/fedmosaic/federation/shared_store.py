"""Keep the state of clients in one folder, from which any process of the machine continues them."""

from __future__ import annotations

import os
from collections.abc import Callable
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
        for name in self.specs:
            if self._path(name).exists():
                self._files[name] = self._path(name)

    def _path(self, name: str) -> Path:
        return self.states / f"{name}.safetensors"

    def _new_file(self, name: str) -> Path:
        self._files[name] = self._path(name)
        return self._files[name]

    def _write(self, name: str) -> None:
        client = self._present[name]
        if client.changed:
            new = self._path(name).with_suffix(".new")
            client.save(new)
            os.replace(new, self._new_file(name))  # checkpoints may link to the old one
            client.changed = False

    def save(self, folder: Path) -> Callable[[], None]:
        for name in self._present:
            self._write(name)
        super().save(folder)()  # now: other processes replace the files
        return lambda: None

    def clear(self) -> None:
        self._present, self._files = {}, {}
        for name in self.specs:
            self._path(name).unlink(missing_ok=True)
