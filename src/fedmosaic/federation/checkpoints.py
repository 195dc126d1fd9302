"""Write checkpoints of a federation while its next round computes, and read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fedmosaic.algorithms.state import ServerState
from fedmosaic.errors import CheckpointError
from fedmosaic.federation.background import Background
from fedmosaic.federation.client_store import note_trained
from fedmosaic.federation.context import ServerContext
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.transport import Transport
from fedmosaic.federation.wire import read_tensors, write_tensors

ROWS = "server"


class Checkpoints(Background):
    """Write the checkpoints of a run, one at a time.

    A checkpoint is a folder that gets its name when everything is in it. So a process that is
    killed before has the checkpoint before.

    Args:
        folder: the run folder.
        on: write while the round loop goes on.
    """

    def __init__(self, folder: RunFolder, on: bool) -> None:
        super().__init__(on)
        self.folder = folder

    def begin(
        self, rounds: int, scalars: Mapping[str, Any], state: ServerState, transport: Transport
    ) -> None:
        """Note the present state and begin to write it, after the checkpoint before is written.

        Rows of the server must not change in place until :meth:`wait` returns.

        Args:
            rounds: how many rounds have led to the state.
            scalars: plain values that go with it.
            state: the server's tensors.
            transport: reaches the clients.

        Raises:
            CheckpointError: this checkpoint or the one before cannot be written.
        """
        self.wait()
        with self._named(rounds), ExitStack() as stack:
            work = stack.enter_context(self.folder.checkpoint(rounds))
            write_clients = transport.save(work / "clients")
            tensors, layout = state.state_dict(work / ROWS)
            unfinished = stack.pop_all()

        def write() -> None:
            with self._named(rounds), unfinished:
                write_tensors(work / "server.safetensors", tensors, {**scalars, "layout": layout})
                write_clients()
                note_trained(work / "clients")

        self.start(write)

    @contextmanager
    def _named(self, rounds: int) -> Iterator[None]:
        """Name the folder if a checkpoint cannot be written.

        Raises:
            CheckpointError: there is no room, say.
        """
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"{self.folder.checkpoints}: the checkpoint after round {rounds} cannot be "
                f"written: {error.strerror or error}. The one before it is complete: make room, "
                f"then continue with: fedmosaic run --resume {self.folder.path}"
            ) from error


def restore_server(server: ServerContext, checkpoint: Path) -> tuple[int, int, str]:
    """Load the server's state from a checkpoint; return its rounds, metrics lines and data."""
    tensors, scalars = read_tensors(checkpoint / "server.safetensors")
    server.state.load_state_dict(tensors, scalars["layout"], checkpoint / ROWS)
    server.round = int(scalars["round"])
    return server.round, int(scalars["lines"]), str(scalars.get("data", ""))
