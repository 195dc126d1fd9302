"""Hold a deployed federation while faults happen in it, and note what came of each."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.deployment.federation import DeployedFederation
from benchmarks.deployment.processes import wait_until
from benchmarks.deployment.program import environment

LIMIT_SECONDS = 240.0


class FaultStage:
    """Run a federation and let faults happen, one after the other.

    Args:
        federation: is started already.

    Attributes:
        found: what came of each fault.
    """

    def __init__(self, federation: DeployedFederation) -> None:
        self.federation = federation
        self.found: list[dict[str, Any]] = []

    @contextmanager
    def fault(self, name: str, site: str, words: str) -> Iterator[None]:
        """Note what comes of a fault that the block makes.

        Args:
            name: of the fault.
            site: the client whose last error must name it; empty: an event names it.
            words: part of that error or event.
        """
        started, began = time.monotonic(), time.time()
        events = len(self.federation.events())
        print(f"{name} …", flush=True)
        yield

        def named() -> str:
            lines = [str(line["text"]) for line in self.federation.events()[events:]]
            if site:
                found = self.command_status().get("sites", {}).get(site, {})
                lines = [str(found["error"])] if found.get("error_time", 0.0) > began else []
            return next((line for line in lines if words in line), "")

        self.until(lambda: bool(named()), f"{name}: the status names it by {words!r}")
        words_found = named()
        self.pass_round()
        seconds = round(time.monotonic() - started, 1)
        entry = {"fault": name, "named": words_found, "next round after (s)": seconds}
        print(json.dumps(entry), flush=True)
        self.found.append(entry)

    def command_status(self) -> dict[str, Any]:
        """Return what ``fedmosaic status --json`` prints."""
        command = [sys.executable, "-m", "fedmosaic", "status", str(self.federation.out), "--json"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds.

        Raises:
            AssertionError: it does not in time, or the server has finished before.
        """
        wait_until(lambda: condition() or self.finished(), LIMIT_SECONDS, what)
        assert condition() or not self.finished(), f"the run has finished before {what}"

    @property
    def round(self) -> int:
        """The current round, from 1."""
        number: int = self.federation.status().get("round", 0)
        return number

    def state_of(self, name: str) -> str:
        """Return how a client stands."""
        site = self.federation.status().get("sites", {}).get(name, {})
        return str(site.get("state", ""))

    def begin_round(self) -> int:
        """Wait until a round begins; return its number."""
        before = self.round
        self.until(lambda: self.round > before, f"round {before + 1} begins")
        return self.round

    def pass_round(self) -> None:
        """Wait until the round is over that runs now."""
        before = self.round
        self.until(lambda: self.round > before, f"round {before} ends")

    def finished(self) -> bool:
        """Return whether the server has ended well."""
        return self.federation.server.status() == 0

    def committed(self, name: str, number: int) -> bool:
        """Return whether a client's turn of a round is on its disk."""
        place = self.federation.root / name / "sessions"
        return any(place.glob(f"*/rounds/round-{number - 1:06d}/turn.json"))

    def end_rounds(self) -> None:
        """Let the federation run to its end."""
        self.federation.wait_for(LIMIT_SECONDS * 3)
