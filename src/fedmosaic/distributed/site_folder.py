"""Keep on disk what a site must not lose: its states and its answers, by session and round.

::

    <folder>/
      audit.jsonl                    what has left the site (:mod:`.outgoing`)
      sessions/<session>/
        shared.json, pivot.bin       what the server sent to prepare the run
        data.json, model.json        which data and model the run works with
        rounds/round-0003/           state.safetensors, answer.bin, turn.json
      adapter/                       the adapter of the finished run

A round's folder appears complete or not at all. So a turn either has happened, with its state and
its answer, or it has not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.errors import SiteError
from fedmosaic.files import atomic_folder, write_atomic

ROUNDS = 4
"""Rounds whose states stay. The server has two checkpoints and may be writing a third."""

_SESSION = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class StoredState:
    """Hold the state of a client after a round.

    Attributes:
        round: number of the round.
        path: its file.
    """

    round: int
    path: Path


class SessionFolder:
    """Hold what a site has of one run.

    Args:
        path: its folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rounds = path / "rounds"

    # --- what the server sent -----------------------------------------------------------------
    @property
    def prepared(self) -> bool:
        """Return whether the site has been prepared for the run."""
        return (self.path / "shared.json").is_file()

    def write_shared(
        self, shared: Mapping[str, Any], pivot: bytes, prepared: Mapping[str, Any]
    ) -> None:
        """Keep what the server sent, and what the site answered; the file is written last."""
        if pivot:
            write_atomic(self.path / "pivot.bin", pivot)
        content = {"shared": shared, "prepared": prepared}
        write_atomic(self.path / "shared.json", json.dumps(content) + "\n")

    def shared(self) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
        """Return what :meth:`write_shared` wrote: settings, published pivot, own answer.

        Raises:
            SiteError: it is damaged.
        """
        pivot = self.path / "pivot.bin"
        try:
            found = json.loads((self.path / "shared.json").read_text(encoding="utf-8"))
            payload = pivot.read_bytes() if pivot.is_file() else b""
            return dict(found["shared"]), payload, dict(found["prepared"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SiteError(
                f"{self.path / 'shared.json'} cannot be read: {error}. Remove {self.path} to join "
                "the run anew; the site then starts from the untrained adapter"
            ) from error

    def same(self, what: str, record: str) -> bool:
        """Return whether the run works with that data or model.

        What it trains with for the first time decides.
        """
        path = self.path / f"{what}.json"
        if not path.is_file() or self.newest() is None:
            write_atomic(path, json.dumps({what: record}) + "\n")
        return self.has(what, record)

    def has(self, what: str, record: str) -> bool:
        """Return whether the run trained with that data or model."""
        path = self.path / f"{what}.json"
        return bool(json.loads(path.read_text(encoding="utf-8"))[what] == record)

    # --- rounds -------------------------------------------------------------------------------
    def answer(self, round_number: int, key: str) -> bytes | None:
        """Return the answer to the turn of that key; None if it has not been taken."""
        folder = self._round(round_number)
        try:
            if json.loads((folder / "turn.json").read_text(encoding="utf-8"))["key"] != key:
                return None
            return (folder / "answer.bin").read_bytes()
        except OSError:
            return None

    def commit(
        self, round_number: int, key: str, answer: bytes, save: Callable[[Path], None] | None
    ) -> None:
        """Keep a turn: its answer and, where it changed, the state that ``save`` writes.

        Raises:
            OSError: the disk is full or gone; the round's folder is as it was.
        """
        with atomic_folder(self._round(round_number)) as work:
            if save is not None:
                save(work / "state.safetensors")
            (work / "answer.bin").write_bytes(answer)
            (work / "turn.json").write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
            for path in work.iterdir():
                _flush(path)
        self._prune()

    def state_before(self, round_number: int) -> StoredState | None:
        """Return the newest state of a round before that one; None if there is none."""
        earlier = [stored for stored in self._states() if stored.round < round_number]
        return earlier[-1] if earlier else None

    def newest(self) -> int | None:
        """Return the last round that changed the state; None before the first."""
        states = self._states()
        return states[-1].round if states else None

    def answers(self) -> list[Path]:
        """Return the files of the answers that are there, in the order of rounds."""
        return sorted(self.rounds.glob("round-*/answer.bin"))

    def clear_leftovers(self) -> None:
        """Remove what an interrupted write left behind."""
        for half in self.rounds.glob(".round-*"):
            shutil.rmtree(half, ignore_errors=True)

    def _round(self, number: int) -> Path:
        return self.rounds / f"round-{number:06d}"

    def _states(self) -> list[StoredState]:
        found = sorted(self.rounds.glob("round-*/state.safetensors"))
        return [StoredState(int(path.parent.name.rpartition("-")[2]), path) for path in found]

    def _prune(self) -> None:
        states = self._states()
        if len(states) > ROUNDS:
            oldest = states[-ROUNDS].path.parent.name
            for folder in self.rounds.glob("round-*"):
                if folder.name < oldest:
                    shutil.rmtree(folder, ignore_errors=True)


class SiteFolder:
    """Hold one site on disk.

    Args:
        path: the folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.audit = path / "audit.jsonl"
        self.adapter = path / "adapter"

    def session(self, session: str) -> SessionFolder:
        """Return the folder of a run.

        Raises:
            SiteError: it is no id of a run.
        """
        if not _SESSION.fullmatch(session):
            raise SiteError(f"{session[:40]!r} is no id of a run")
        return SessionFolder(self.path / "sessions" / session)

    def latest_session(self) -> SessionFolder | None:
        """Return the run that the site trained in last; None before the first round."""
        states = list(self.path.glob("sessions/*/rounds/round-*/state.safetensors"))
        latest = max(states, key=lambda path: path.stat().st_mtime_ns, default=None)
        return None if latest is None else SessionFolder(latest.parents[2])


def _flush(path: Path) -> None:
    """Write a file of a round to the disk: an answer that was sent must survive a reboot."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
