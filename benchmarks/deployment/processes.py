"""Find the processes of a folder and what they listen to, in the files of Linux; end them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path


def processes_of(folder: Path) -> dict[int, str]:
    """Return the processes that have a folder in their command line or a variable.

    Returns:
        The command line of each by its id, without this process and those that started it, and
        without processes that have ended.
    """
    found, own = {}, _ancestors()
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) in own:
            continue
        try:
            variables = (place / "environ").read_bytes()
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and os.fsencode(folder) in variables + command.encode():
            found[int(place.name)] = command
    return found


def _ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def process_of(folder: Path, word: str) -> int:
    """Return the id of the one process of a folder whose command line has a word."""
    (found,) = [pid for pid, line in processes_of(folder).items() if word in line]
    return found


def listening_addresses(processes: Collection[int]) -> set[str]:
    """Return the addresses where processes listen for TCP connections: hexadecimal, with ports."""
    sockets = set()
    for pid in processes:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(handle))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1])
    return found


def free_port() -> int:
    """Return a port of this machine that nothing uses now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def kill(pid: int, kind: int = signal.SIGKILL) -> bool:
    """Send a signal to a process; return whether it was there."""
    try:
        os.kill(pid, kind)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it does not within the time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
