"""Keep clients between their turns: some in main memory, the state of all others in files."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

from fedmosaic.errors import CheckpointError
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Introduction
from fedmosaic.federation.introduce import begin, introduction
from fedmosaic.federation.resources import give_back_freed_memory
from fedmosaic.federation.runtime import Runtime
from fedmosaic.files import link

TRAINED = "trained.json"


class ClientStore(Mapping[str, LocalClient]):
    """Make clients for their turns, and keep what they learned.

    A client is made when it is first asked for. It stays in main memory until :meth:`trim` finds
    more than ``limit`` clients there; then those that were used least recently are written to files
    and dropped. A client that has not trained has no file: it begins again as it began before.

    A file is never changed in place. So a checkpoint can link to it, and writes only the clients
    that have changed since they were last written.

    Args:
        runtime: what the clients share.
        names: the clients; None for all of the scenario.
        folder: in which the store makes a folder of its own for its files; None: in the system's
            folder for temporary files.
        limit: the most clients that stay in main memory; None for all.
    """

    def __init__(
        self,
        runtime: Runtime,
        names: set[str] | None = None,
        folder: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self.runtime = runtime
        self.folder = folder
        self.limit = limit
        self.specs = {
            spec.name: spec
            for spec in runtime.scenario.clients
            if names is None or spec.name in names
        }
        self._present: dict[str, LocalClient] = {}  # the least recently used first
        self._written: set[str] = set()
        self._files: Path | None = None
        self._introduced = False

    def introduce(self) -> dict[str, Introduction]:
        """Introduce all clients; from now on each begins with what the algorithm keeps for it."""
        self._introduced = True
        for name, client in self._present.items():
            self._begin(name, client)
        return {name: introduction(self.runtime, spec) for name, spec in self.specs.items()}

    def _begin(self, name: str, client: LocalClient) -> None:
        if self._introduced and name not in self._written and not client.changed:
            begin(client)

    def __getitem__(self, name: str) -> LocalClient:
        """Return a client with its state.

        Raises:
            KeyError: there is no such client.
            CheckpointError: the file with its state is damaged.
        """
        client = self._present.pop(name, None) or self._make(name)
        self._present[name] = client
        return client

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def trained(self) -> list[str]:
        """Return the clients that have trained, in roster order."""
        changed = {name for name, client in self._present.items() if client.changed}
        return [name for name in self.specs if name in self._written or name in changed]

    def _make(self, name: str) -> LocalClient:
        client = LocalClient(self.runtime, self.specs[name])
        if name not in self._written:
            self._begin(name, client)
            return client
        try:
            client.load(self._file(name))
        except CheckpointError as error:
            raise CheckpointError(
                f"the state of client {name!r} cannot be read again ({error}); continue from the "
                "last checkpoint with: fedmosaic run --resume"
            ) from error
        return client

    def trim(self) -> None:
        """Drop the clients that were used least recently from memory, down to the limit."""
        while self.limit is not None and len(self._present) > self.limit:
            name = next(iter(self._present))
            self._write(name)
            self._present.pop(name).release()

    # --- files --------------------------------------------------------------------------------
    def _file(self, name: str) -> Path:
        if self._files is None:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._files = Path(tempfile.mkdtemp(dir=self.folder, prefix="clients-"))
            # A store that nobody clears, as of a rehearsal, leaves no files behind either.
            self._remove = weakref.finalize(self, shutil.rmtree, self._files, ignore_errors=True)
        return self._files / f"{name}.safetensors"

    def _write(self, name: str) -> None:
        """Write a client's file, unless it holds the client's state already."""
        client = self._present[name]
        if client.changed:
            path = self._file(name)
            path.unlink(missing_ok=True)  # checkpoints may link to it
            client.save(path)
            client.changed = False
            self._written.add(name)

    def save(self, folder: Path) -> None:
        """Put the files of all clients that have trained into a folder of a checkpoint."""
        for name in self._present:
            self._write(name)
        folder.mkdir(parents=True, exist_ok=True)
        for name in self._written:
            target = folder / f"{name}.safetensors"
            target.unlink(missing_ok=True)
            link(self._file(name), target)
        if self.limit is not None and len(self.specs) > self.limit:
            # Clients that came and went leave gaps, which would grow over hundreds of rounds.
            give_back_freed_memory()

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint; every file is read now, so that damage shows at once.

        Raises:
            CheckpointError: a file is damaged or missing; the message names it.
        """
        self.clear()
        trained = trained_clients(folder)
        for name, spec in self.specs.items():
            if trained is None or name in trained:
                client = LocalClient(self.runtime, spec)
                client.load(source := folder / f"{name}.safetensors")
                link(source, self._file(name))
                self._written.add(name)
                self._present[name] = client
                self.trim()

    def clear(self) -> None:
        """Return all clients to their beginning, and remove the files."""
        self._present, self._written = {}, set()
        if self._files is not None:
            self._remove()
            self._files = None


def note_trained(folder: Path) -> None:
    """Write which clients have a file in a checkpoint's folder of clients."""
    names = sorted(path.stem for path in folder.glob("*.safetensors"))
    (folder / TRAINED).write_text(json.dumps(names) + "\n", encoding="utf-8")


def trained_clients(folder: Path) -> set[str] | None:
    """Return the clients that have a file in a checkpoint's folder of clients.

    All others are as they were before the first round. None: the checkpoint is of an earlier
    version, in which every client has a file.

    Raises:
        CheckpointError: the list is damaged.
    """
    path = folder / TRAINED
    if not path.is_file():
        return None
    try:
        return set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
