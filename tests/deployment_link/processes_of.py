"""Find processes and what they listen to, in the files of Linux."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def processes_of(folder: Path) -> dict[int, str]:
    """Return the processes, with their command lines, that have a folder in a variable."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            try:
                variables = (place / "environ").read_bytes()
                command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z" and os.fsencode(folder) in variables + command.encode():
                found[int(place.name)] = command
    return found


def process(folder: Path, word: str) -> int:
    """Return the id of the process of a folder whose command line has a word."""
    (found,) = [pid for pid, line in processes_of(folder).items() if word in line]
    return found


def listening_addresses(processes: set[int]) -> set[str]:
    """Return the addresses where processes listen for TCP connections: hexadecimal, with ports."""
    sockets = set()
    for pid in processes:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(handle))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1])
    return found


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it does not within the time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)
