"""Run a command of Flower as a process that ends with its parent, however that ends.

``python -m fedmosaic.engines.flower.guarded COMMAND ...`` runs a console script of Flower. Its
standard input is a pipe that the parent holds open. When the pipe closes, or the process has
another parent, it kills its process group, and with it what Flower has started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

FRONT_VARIABLE = "FEDMOSAIC_FRONT"
WATCH_SECONDS = 1.0
BIND_SECONDS = 15.0
IN_USE = 98
KEEP_ALIVE_SECONDS = 60  # longer than a client may use a connection after a pause


def main() -> None:
    """Run the command that the arguments name."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    name, sys.argv = sys.argv[1], sys.argv[1:]
    settings = os.environ.get(FRONT_VARIABLE)
    if settings is not None:
        _use_front(json.loads(settings))
    (command,) = entry_points(group="console_scripts", name=name)
    sys.exit(command.load()())


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], WATCH_SECONDS)
        if readable and not os.read(0, 1):
            break
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _use_front(settings: dict[str, Any]) -> None:
    """Let the SuperLink listen where we say, behind :class:`.Front`.

    Flower starts its server through ``uvicorn.run``, which is replaced.

    Args:
        settings: ``listen`` (host and port), ``keys`` and ``ports`` (files), ``max_bytes``.
    """
    import uvicorn

    from fedmosaic.engines.flower.front import Front

    inner = listening("127.0.0.1", 0, 0.0)
    host, port = settings["listen"]
    outer = listening(host, port, BIND_SECONDS)
    ports = Path(settings["ports"])

    def run(app: Any, **options: Any) -> None:
        keys = Path(settings["keys"]) if settings["keys"] else None
        front = Front(app, inner.getsockname()[1], keys, settings["max_bytes"])
        chosen = ("ssl_keyfile", "ssl_certfile", "log_config")
        config = uvicorn.Config(front, **{name: options[name] for name in chosen})
        config.timeout_keep_alive = KEEP_ALIVE_SECONDS
        config.timeout_graceful_shutdown = 1
        found = {"inner": inner.getsockname()[1], "outer": outer.getsockname()[1]}
        part = ports.with_suffix(".part")
        part.write_text(json.dumps(found))
        os.replace(part, ports)
        uvicorn.Server(config).run(sockets=[inner, outer])

    uvicorn.run = run


def listening(host: str, port: int, patience: float) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: address or name of this machine.
        port: 0 for any that is free.
        patience: seconds to wait for a port that is in use, perhaps by a process that is ending.
    """
    end = time.monotonic() + patience
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    while True:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
            found.listen(512)
            return found
        except OSError as error:
            found.close()
            if error.errno != IN_USE or time.monotonic() > end:
                sys.exit(f"cannot listen at {host}:{port}: {error.strerror}")
            time.sleep(0.2)


if __name__ == "__main__":
    main()
