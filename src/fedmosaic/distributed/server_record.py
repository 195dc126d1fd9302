"""Keep on disk what the server knows of the sites of a run: it outlives the server's process."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmosaic.distributed.status import read_status
from fedmosaic.errors import CheckpointError, listed, nearest
from fedmosaic.files import write_atomic

FILE, PIVOT, CONTROL = "sites.json", "pivot.bin", "control.json"


class ServerRecord:
    """Hold a run's id, what sites have said of themselves, and what the pivot published.

    Args:
        folder: of the run.
        given: the settings that the server was started with, as JSON; empty: not compared.

    Attributes:
        session: id of the run, 32 hexadecimal digits.
        facts: what each client said of itself, by name.
        prepared: what each client that is ready answered, by name.

    Raises:
        CheckpointError: the folder holds a run with other settings, or a damaged file.
    """

    def __init__(self, folder: Path, given: str) -> None:
        self.path = folder / FILE
        self.given = given
        self.session = secrets.token_hex(16)
        self.facts: dict[str, Mapping[str, Any]] = {}
        self.prepared: dict[str, Mapping[str, Any]] = {}
        self.pivot = folder / PIVOT
        if self.path.is_file():
            self._read()

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            self.session, self.facts = str(content["session"]), dict(content["facts"])
            self.prepared = dict(content["prepared"])
            given = content["given"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.path} cannot be read: {error}. Without it the run cannot be continued; "
                "start it in another folder"
            ) from error
        if self.given and given != self.given:
            other = _difference(given, self.given)
            raise CheckpointError(
                f"{self.path.parent} holds a run with other settings: {other}. "
                "Choose another --out, or continue the run with the settings with which it began"
            )
        self.given = given

    def write(self) -> None:
        """Write everything to the disk."""
        content = {
            "session": self.session,
            "given": self.given,
            "facts": self.facts,
            "prepared": self.prepared,
        }
        write_atomic(self.path, json.dumps(content, indent=1) + "\n")

    def published(self) -> bytes:
        """Return what the pivot published; empty where nothing was."""
        return self.pivot.read_bytes() if self.pivot.is_file() else b""


def ejected(folder: Path) -> dict[str, str]:
    """Return the clients that the operator has ejected, with the reasons, by name."""
    path = folder / CONTROL
    if not path.is_file():
        return {}
    content: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return content.get("eject", {})


def eject(folder: Path, name: str, reason: str) -> None:
    """Ask the server of a folder to let a client take part no more.

    Raises:
        CheckpointError: the folder is no server's, or knows no such client.
    """
    known = read_status(folder).sites
    if name not in known:
        raise CheckpointError(f"{folder} has no client {name!r}.{nearest(name, known)}")
    found = {**ejected(folder), name: reason}
    write_atomic(folder / CONTROL, json.dumps({"eject": found}) + "\n")


def _difference(before: str, now: str) -> str:
    """Return the first settings that differ, each with both values."""
    old, new = _values(json.loads(before or "{}")), _values(json.loads(now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return listed(
        [f"{name} was {old.get(name)!r} and is {new.get(name)!r} now" for name in names], 3
    )


def _values(content: Any, name: str = "") -> dict[str, Any]:
    """Return single values by their dotted names."""
    if not isinstance(content, dict):
        return {name: content}
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _values(value, f"{name}.{key}".strip("."))
    return found
