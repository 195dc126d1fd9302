"""Run Flower's simulation, whose virtual nodes are answered for by Ray's processes.

It runs in a thread. The thread that starts it reaches the nodes through a link. So a run goes as
with any other engine, with its errors and Ctrl-C in its own thread.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmosaic.distributed.link import Delivery
from fedmosaic.engines.flower.client_app import make_client_app
from fedmosaic.engines.flower.environment import prepare_flower
from fedmosaic.engines.flower.grid_link import FASTEST, GridLink
from fedmosaic.errors import ConfigError, LinkError

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid
    from psutil import Process

START_SECONDS = 60.0
STOP_SECONDS = 20.0
LOG = "flower.log"
ACTOR = "ray::ClientAppActor"


class Simulation(GridLink):
    """Reach the virtual nodes of a simulation, which ends when this object is closed.

    Args:
        nodes: number of nodes.
        processes: number of Ray's processes, each of which answers one request at a time.
        cards: number of CUDA cards that the processes share.
        log: file for what Flower logs.

    Attributes:
        home: folder for the files of Flower and Ray, which is removed at the end.

    Raises:
        ConfigError: Flower is not installed, see :func:`.environment.prepare_flower`, or this
            process uses Ray already.
        LinkError: the simulation did not start.
    """

    def __init__(self, nodes: int, processes: int, cards: int, log: Path) -> None:
        require_no_ray()
        self.home = Path(tempfile.mkdtemp(prefix="fedmosaic-flower-"))
        self._log = log
        self._before = os.environ.get("PYTHONPATH")
        self._grids: queue.Queue[Grid] = queue.Queue()
        self._ends = threading.Event()
        self._failure = ""
        prepare_flower(self.home / "flower")
        resources = backend_config(processes, cards, self.home / "ray")
        self._thread = threading.Thread(target=self._run, args=(nodes, resources), daemon=True)
        self._thread.start()
        try:
            super().__init__(self._started(), slowest=FASTEST)
            wait_for_nodes(self, nodes)
        except BaseException:
            self.close()
            raise

    def receive(self, timeout: float) -> list[Delivery]:
        found = super().receive(timeout)
        if not found:
            self._require_alive()
        return found

    def close(self) -> None:
        """End the simulation and all of its processes; turns that are under way are broken off."""
        processes = self._processes()
        self._ends.set()
        if self._waiting:
            for process in filter(is_actor, processes):
                process.terminate()
            self._thread.join(STOP_SECONDS)
            end(filter(is_actor, processes))
        self._thread.join(STOP_SECONDS)
        # Ray may still have been starting processes.
        end([*processes, *self._processes()], after=STOP_SECONDS)
        shutil.rmtree(self.home, ignore_errors=True)
        # Flower sets it for Ray's processes.
        if self._before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = self._before

    def _processes(self) -> list[Process]:
        """Return Ray's processes that name the folder of this simulation, and theirs."""
        import psutil

        found: list[Process] = []
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if any(str(self.home) in part for part in child.cmdline()):
                    found += [child, *child.children(recursive=True)]
        return found

    # --- in the thread of the simulation ------------------------------------------------------
    def _run(self, nodes: int, resources: dict[str, Any]) -> None:
        """Run the simulation until it is asked to end."""
        from flwr.serverapp import ServerApp
        from flwr.simulation import run_simulation

        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            self._grids.put(grid)
            self._ends.wait()

        with ray_messages_to(logging.getLogger("flwr")), logged_to(self._log):
            try:
                run_simulation(server, make_client_app(), nodes, backend_config=resources)
            except Exception as error:
                cause: BaseException = error
                while cause.__cause__ is not None:
                    cause = cause.__cause__
                self._failure = f"{type(cause).__name__}: {cause}."

    # --- in the thread of the run -------------------------------------------------------------
    def _started(self) -> Grid:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                return self._grids.get(timeout=0.2)
            except queue.Empty:
                self._require_alive()
        raise LinkError(f"Flower's simulation did not start within {START_SECONDS:.0f} s")

    def _require_alive(self) -> None:
        if not self._thread.is_alive():
            raise LinkError(
                f"Flower's simulation ended unexpectedly. {self._failure} See {self._log}"
            )


def require_no_ray() -> None:
    """Raise ConfigError if Ray runs in this process: Flower would use it, and end it."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise ConfigError("engine: flower starts Ray, which runs in this process already: end it")


def wait_for_nodes(link: GridLink, count: int) -> None:
    """Wait until so many nodes are there.

    Raises:
        LinkError: they are not, after a minute.
    """
    end = time.monotonic() + START_SECONDS
    while len(found := link.nodes()) < count:
        if time.monotonic() > end:
            raise LinkError(
                f"{len(found)} of {count} nodes of Flower's simulation are there after "
                f"{START_SECONDS:.0f} s"
            )
        time.sleep(0.01)


def backend_config(processes: int, cards: int, folder: Path) -> dict[str, Any]:
    """Return what Flower passes to Ray.

    Args:
        processes: number of processes.
        cards: number of CUDA cards that they share.
        folder: for Ray's sockets and logs.
    """
    # A share that divides a card, so that no process waits for parts of two.
    share = 1 / math.ceil(processes / cards) if cards else 0.0
    return {
        "init_args": {
            "address": "local",
            "num_cpus": processes,
            "num_gpus": cards,
            "include_dashboard": False,
            "logging_level": "ERROR",
            "log_to_driver": False,
            "_temp_dir": str(folder),
        },
        "client_resources": {"num_cpus": 1, "num_gpus": share},
    }


def is_actor(process: Process) -> bool:
    """Return whether a process takes the turns of clients."""
    import psutil

    with suppress(psutil.Error):
        return "".join(process.cmdline()).startswith(ACTOR)
    return False


def end(processes: Iterable[Process], after: float = 0.0) -> None:
    """Kill processes that have not ended by themselves after some seconds."""
    import psutil

    alive = wait_for_end(processes, after)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    wait_for_end(alive, STOP_SECONDS)


def wait_for_end(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait at most so long; return the processes that have not ended.

    A process that ended counts, even if nobody has asked for its status, as in some containers.
    """
    end, alive = time.monotonic() + seconds, list(filter(runs, processes))
    while alive and time.monotonic() < end:
        time.sleep(0.05)
        alive = list(filter(runs, alive))
    return alive


def runs(process: Process) -> bool:
    """Return whether a process has not ended."""
    import psutil

    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Write what Flower and Ray log inside the block into a file, and nothing to the terminal."""
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("flwr", "ray")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()


@contextmanager
def ray_messages_to(logger: logging.Logger) -> Iterator[None]:
    """Log what Ray prints about its processes inside the block.

    Ray prints that a process ended, after Ctrl-C for example, even without ``log_to_driver``. It
    has no public setting for that.
    """
    from ray._private import worker

    def log(data: dict[str, Any], *_: Any, **__: Any) -> None:
        logger.warning("\n".join(data["lines"]))

    before = getattr(worker, "print_to_stdstream", None)
    worker.print_to_stdstream = log
    try:
        yield
    finally:
        worker.print_to_stdstream = before
