"""Show how a federation stands: who is in, who is late, and what went wrong last.

The server keeps ``status.json`` and ``events.jsonl`` in its folder; both are for people and
programs to read while it runs.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fedmosaic.errors import CheckpointError
from fedmosaic.files import write_atomic

FILE, EVENTS = "status.json", "events.jsonl"
SECONDS = 1.0
"""Least time between two writings of the file."""


@dataclass
class SiteStatus:
    """Say how one site stands.

    Attributes:
        state: ``expected``, ``connected``, ``working``, ``done``, ``away``, ``ejected``,
            ``finished``.
        since: time of the last change of state, seconds since 1970.
        round: the last round of which it delivered an update, from 1; 0: none.
        bytes_up: bytes that it sent.
        bytes_down: bytes that it received.
        error: its last error; empty: none.
        error_time: when that was.
        missed: rounds that went on without it.
    """

    state: str = "expected"
    since: float = field(default_factory=time.time)
    round: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    error: str = ""
    error_time: float = 0.0
    missed: int = 0


@dataclass
class FederationStatus:
    """Say how a federation stands.

    Attributes:
        name: name of the scenario.
        session: id of the run.
        state: what the server does: ``starting``, ``waiting for sites``, ``preparing``,
            ``training``, ``aggregating``, ``finishing``, ``finished`` or ``stopped``.
        reason: why it has stopped; empty otherwise.
        round: the current round, from 1; 0 before the first.
        rounds: number of rounds.
        seconds_left: expected time until the end; None where nothing is known.
        waiting_for: the sites that the server waits for.
        updated: when this was written, seconds since 1970.
        process: id of the server's process.
        sites: each site's status by name.
    """

    name: str
    session: str = ""
    state: str = "starting"
    reason: str = ""
    round: int = 0
    rounds: int = 0
    seconds_left: float | None = None
    waiting_for: Sequence[str] = ()
    updated: float = 0.0
    process: int = 0
    sites: dict[str, SiteStatus] = field(default_factory=dict)


class StatusBoard:
    """Hold a federation's status, write it to disk and pass events on to a person.

    Args:
        folder: of the server.
        status: to begin with.
        notice: takes each event as a line.
    """

    def __init__(
        self, folder: Path, status: FederationStatus, notice: Callable[[str], None] = print
    ) -> None:
        self.folder = folder
        self.status = status
        self.notice = notice
        self._written = 0.0
        self._lock = threading.Lock()

    def site(self, name: str) -> SiteStatus:
        """Return the status of a site."""
        return self.status.sites.setdefault(name, SiteStatus())

    def state_of(self, name: str, state: str) -> None:
        """Note a site's state."""
        site = self.site(name)
        if site.state != state:
            site.state, site.since = state, time.time()
            self.write()

    def set(self, **values: Any) -> None:
        """Change the federation's fields."""
        changed = any(getattr(self.status, name) != value for name, value in values.items())
        for name, value in values.items():
            setattr(self.status, name, value)
        self.write(now=changed)

    def error(self, name: str, text: str) -> None:
        """Note an error of a site, and tell it."""
        site = self.site(name)
        site.error, site.error_time = text, time.time()
        self.event(f"{name}: {text}", site=name, error=True)

    def event(self, text: str, **more: Any) -> None:
        """Tell an event to the person at the terminal, and write it down."""
        line = {"time": time.time(), "text": text, **more}
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock, (self.folder / EVENTS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self.notice(text)
        self.write(now=True)

    def write(self, now: bool = False) -> None:
        """Write the status, unless that was done a moment ago."""
        clock = time.time()
        if now or clock - self._written >= SECONDS:
            self._written = self.status.updated = clock
            text = json.dumps(asdict(self.status), indent=2) + "\n"
            with self._lock:
                write_atomic(self.folder / FILE, text)


def continued(status: FederationStatus, folder: Path) -> str:
    """Take over what a former process of the server noted of the sites of the same run.

    Returns:
        How that process ended, where it was killed; empty otherwise.
    """
    try:
        former = read_status(folder)
    except CheckpointError:
        return ""
    if former.session != status.session:
        return ""
    for name, site in former.sites.items():
        status.sites[name] = replace(site, state="expected", since=time.time())
    if former.state in ("finished", "stopped"):
        return ""
    place = f" in round {former.round}" if former.round else ""
    return f"the server's process was killed while {former.state}{place}; this one goes on"


def read_status(folder: Path) -> FederationStatus:
    """Return the status that a server wrote.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is no folder of a server: it has no {FILE}. Name the --out of "
            "`fedmosaic server`"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sites = {name: SiteStatus(**site) for name, site in content.pop("sites").items()}
        return FederationStatus(**content, sites=sites)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
