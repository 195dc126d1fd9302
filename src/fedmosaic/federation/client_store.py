"""Keep clients between their turns: some in main memory, the state of all others in files."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
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

    A file is never changed: a client that is written anew has a new file. So a checkpoint can link
    to it, and writes only the clients that have changed since they were last written.

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
        self._files: dict[str, Path] = {}  # of the clients that were written
        self._outdated: list[Path] = []  # a checkpoint may still be about to link to these
        self._unwritten: dict[str, Future[None]] = {}  # clients whose files are still to come
        self._own: Path | None = None
        self._count = 0
        self._introduced = False

    def introduce(self) -> dict[str, Introduction]:
        """Introduce all clients; from now on each begins with what the algorithm keeps for it."""
        self._introduced = True
        for name, client in self._present.items():
            self._begin(name, client)
        return {name: introduction(self.runtime, spec) for name, spec in self.specs.items()}

    def _begin(self, name: str, client: LocalClient) -> None:
        if self._introduced and name not in self._files and not client.changed:
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
        return [name for name in self.specs if name in self._files or name in changed]

    def _make(self, name: str) -> LocalClient:
        client = LocalClient(self.runtime, self.specs[name])
        if name not in self._files:
            self._begin(name, client)
            return client
        if name in self._unwritten:
            self._unwritten[name].result()
        try:
            client.load(self._files[name])
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
    def _new_file(self, name: str) -> Path:
        """Return the path of a new file for a client, in place of the one that it had."""
        if self._own is None:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._own = Path(tempfile.mkdtemp(dir=self.folder, prefix="clients-"))
            # A store that nobody clears, as of a rehearsal, leaves no files behind either.
            self._remove = weakref.finalize(self, shutil.rmtree, self._own, ignore_errors=True)
        if name in self._files:
            self._outdated.append(self._files[name])
        self._unwritten.pop(name, None)
        self._count += 1
        self._files[name] = self._own / f"{self._count}-{name}.safetensors"
        return self._files[name]

    def _write(self, name: str) -> None:
        """Write a client's file, unless there is one with the client's state."""
        client = self._present[name]
        if client.changed:
            client.save(self._new_file(name))
            client.changed = False

    def save(self, folder: Path) -> Callable[[], None]:
        """Note the state of all clients that have trained, for a folder of a checkpoint.

        Returns:
            a function that writes their files and links to them in the folder. It may run on
            another thread, while the clients go on; until it has ended, :meth:`save` must not be
            called.
        """
        for path in self._outdated:
            path.unlink(missing_ok=True)  # checkpoints may link to it
        self._outdated = []
        changed = {name: client for name, client in self._present.items() if client.changed}
        writers = {self._new_file(name): client.snapshot() for name, client in changed.items()}
        for client in changed.values():
            client.changed = False
        written: Future[None] = Future()
        self._unwritten = dict.fromkeys(changed, written)
        files = dict(self._files)
        comes_and_goes = self.limit is not None and len(self.specs) > self.limit

        def write() -> None:
            try:
                _write_and_link(files, writers, folder)
            except BaseException as error:
                written.set_exception(error)
                raise
            written.set_result(None)
            if comes_and_goes:
                # Clients that came and went leave gaps, which would grow over hundreds of rounds.
                give_back_freed_memory()

        return write

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
                link(source, self._new_file(name))
                self._present[name] = client
                self.trim()

    def clear(self) -> None:
        """Return all clients to their beginning, and remove the files."""
        self._present, self._files, self._outdated, self._unwritten = {}, {}, [], {}
        if self._own is not None:
            self._remove()
            self._own = None


def _write_and_link(
    files: Mapping[str, Path], writers: dict[Path, Callable[[Path], None]], folder: Path
) -> None:
    """Write the files of some clients, each with its writer, and link to all in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        if path in writers:
            writers.pop(path)(path)  # the state's memory is free as soon as it is written
        target = folder / f"{name}.safetensors"
        target.unlink(missing_ok=True)
        link(path, target)


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
