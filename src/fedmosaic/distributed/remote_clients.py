"""Reach clients at their sites: the transport of a round loop over a link."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmosaic.distributed.courier import Courier, Errand
from fedmosaic.distributed.finishing import finish_sites
from fedmosaic.distributed.messages import SiteRequest, SiteResponse, turn_key
from fedmosaic.distributed.site_run import LOST, UNPREPARED
from fedmosaic.errors import CheckpointError, SiteError, UpdateError, listed
from fedmosaic.federation.instructions import ClientResult, Instructions, Introduction
from fedmosaic.files import write_atomic

SITES = "sites.json"

Prepare = Callable[[str], SiteRequest]
"""Makes the request that prepares a client's site for the run."""


@dataclass
class _Turn:
    """Hold a turn of a client that is under way.

    Attributes:
        name: the client.
        instructions: what it has to do.
        key: hash that identifies the turn; empty before its request is made.
        is_done: whether there is an update of it.
    """

    name: str
    instructions: Instructions
    key: str = ""
    is_done: bool = False


class RemoteClients:
    """Implement a transport whose clients are at their own sites.

    Their states stay there; a checkpoint holds in which round each of them trained last.

    Args:
        courier: carries requests and answers.
        session: id of the run.
        introductions: of the clients, by name, in roster order.
        prepare: makes the request that prepares a site, also one that has lost its folder.
        placed: what carries adapters in each model; None: not known.
    """

    def __init__(
        self,
        courier: Courier,
        session: str,
        introductions: Mapping[str, Introduction],
        prepare: Prepare,
        placed: dict[str, Any] | None = None,
    ) -> None:
        self.courier, self.session, self.prepare = courier, session, prepare
        self.introductions = dict(introductions)
        self.placed = placed
        self.trained: dict[str, int] = {}
        self._late: dict[str, SiteResponse] = {}
        self._absent: set[str] = set()

    def introduce(self) -> dict[str, Introduction]:
        return self.introductions

    def placement(self) -> dict[str, Any] | None:
        return self.placed

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        """Let sites take their turns; one that gives no answer in time has no update.

        Raises:
            SiteError: fewer updates than ``min_updates`` came, also after all extensions.
        """
        names = [name for name in self.introductions if name in instructions]
        turns = {name: _Turn(name, instructions[name]) for name in names}
        ready: dict[str, ClientResult] = {name: found for name, found in self._skipped(names)}
        board = self.courier.board
        board.set(state="training", round=instructions[names[0]].round + 1 if names else 0)
        errands = [self._errand(turns[name], downloads) for name in names if name not in ready]
        deadline = _Deadline(self.courier, [n for n in names if instructions[n].train])
        waiting = list(names)
        yield from _in_turn(waiting, ready)
        for errand, reply in self.courier.answers(errands, deadline):
            name = errand.site
            if reply is None:
                ready[name] = self._failure(name, errand.error)
            else:
                ready[name] = self._result(turns[name], reply)
                turns[name].is_done = ready[name].update is not None
                deadline.updates += turns[name].is_done
            yield from _in_turn(waiting, ready)
        deadline.require([name for name in names if not turns[name].is_done])
        for name in waiting:
            if name not in ready:
                self._absent.add(name)
                ready[name] = self._failure(name, deadline.reason(name))
        yield from _in_turn(waiting, ready)
        board.set(state="aggregating", waiting_for=[])

    # --- a turn -------------------------------------------------------------------------------
    def _errand(self, turn: _Turn, downloads: Mapping[str, bytes]) -> Errand:
        name, number = turn.name, turn.instructions.round

        def request() -> SiteRequest:
            header = {
                "round": number,
                "instructions": asdict(turn.instructions),
                "after": self.trained.get(name),
            }
            made = SiteRequest("turn", self.session, header, downloads[name])
            turn.key = turn_key(made)
            return made

        def inquiry() -> SiteRequest:
            return SiteRequest("inquire", self.session, {"round": number, "key": turn.key})

        def check(reply: SiteResponse) -> None:
            found = reply.header
            if reply.kind != "turn" or reply.session != self.session or found.get("name") != name:
                raise UpdateError("it is not this client's answer in this run")
            if found.get("round") != number or found.get("key") != turn.key:
                raise UpdateError(f"it is not the answer to round {number + 1}, perhaps a replay")

        limits = self.courier.limits
        # A request that nobody has pulled must outlive the round's repetitions.
        seconds = limits.round_seconds * (1 + limits.repeats)
        errand = Errand(name, request, seconds, inquiry, check)

        def remedy(reason: str) -> Errand | None:
            if reason == UNPREPARED:
                return Errand(name, lambda: self.prepare(name), limits.prepare_seconds)
            if reason == LOST:
                self.courier.board.error(
                    name, "has lost its state; it goes on from the untrained adapter"
                )
                del self.trained[name]
                return errand
            return None

        errand.remedy = remedy
        return errand

    def _result(self, turn: _Turn, reply: SiteResponse) -> ClientResult:
        try:
            update = reply.body if reply.header["update"] else None
            result = ClientResult.from_json(reply.header["result"], update)
        except (KeyError, TypeError, ValueError) as error:
            return self._failure(turn.name, f"its answer cannot be read: {error}")
        self._absent.discard(turn.name)
        self._late.pop(turn.name, None)
        site = self.courier.board.site(turn.name)
        self.courier.board.state_of(turn.name, "done")
        if turn.instructions.train:
            self.trained[turn.name] = turn.instructions.round
            site.round = turn.instructions.round + 1
        return result

    def _failure(self, name: str, reason: str) -> ClientResult:
        """Return that a client has no update, or its late one of an earlier round."""
        board = self.courier.board
        board.site(name).missed += 1
        for errand, reply in self.courier.late:
            number = reply.header.get("round", -1)
            counts = self.courier.limits.late == "keep" and reply.header.get("update")
            what = "it counts in this round" if counts else "it is dropped"
            board.event(f"{errand.site}: the update of round {number + 1} came late; {what}")
            if counts:
                self._late[errand.site] = reply
        self.courier.late.clear()
        late = self._late.pop(name, None)
        if late is not None:
            secret = bool((late.header.get("result") or {}).get("secret_noise"))
            return ClientResult(update=late.body, secret_noise=secret)
        return ClientResult(failure=reason)

    def _skipped(self, names: Sequence[str]) -> Iterator[tuple[str, ClientResult]]:
        """Yield the clients that are not waited for: ejected, or absent since an earlier round."""
        members = self.courier.members
        members.look()
        for name in names:
            if name in members.ejected:
                yield name, ClientResult(failure="it has been ejected")
            elif name in self._absent and members.node(name) is None:
                yield name, self._failure(name, "it is not connected, since an earlier round")

    # --- checkpoints and the end --------------------------------------------------------------
    def save(self, folder: Path) -> Callable[[], None]:
        text = json.dumps(self.trained) + "\n"  # now: the next round changes it

        def write() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / SITES, text)

        return write

    def load(self, folder: Path) -> None:
        """Take from a checkpoint in which round each client trained last.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        path = folder / SITES
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self.trained = {str(name): int(number) for name, number in found.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error

    def save_adapters(self, folder: Path) -> None:
        """Do nothing: every site writes its own adapter when the run is finished."""

    def finish(self, message: str) -> None:
        """Tell all sites that the run is finished; each writes its adapter and leaves."""
        members = self.courier.members
        absent = {name for name in self._absent if members.node(name) is None}
        names = [name for name in self.introductions if name not in absent | set(members.ejected)]
        finish_sites(self.courier, self.session, names, message)

    def close(self) -> None:
        self.courier.link.close()


class _Deadline:
    """Say when a round is over: in time, or later where too few updates have come."""

    def __init__(self, courier: Courier, training: Sequence[str]) -> None:
        self.courier, self.limits = courier, courier.limits
        self.needed = self.limits.updates_needed(len(training)) if training else 0
        self.updates = 0
        self.repeats = 0
        self.end = time.monotonic() + self.limits.round_seconds

    def __call__(self, errands: Sequence[Errand]) -> bool:
        if time.monotonic() < self.end:
            return False
        if self.updates >= self.needed:
            return True
        missing = [errand.site for errand in errands]
        if self.limits.short_round == "stop" or self.repeats == self.limits.repeats:
            self.require(missing)
        self.repeats += 1
        self.courier.board.event(
            f"{self.updates} of at least {self.needed} updates are here; waiting "
            f"{self.limits.round_seconds:g} s more for {listed(missing)}"
        )
        self.end = time.monotonic() + self.limits.round_seconds
        return False

    def require(self, missing: Sequence[str]) -> None:
        """Raise SiteError if there are too few updates."""
        if self.updates < self.needed:
            raise SiteError(
                f"the round has {self.updates} updates and needs {self.needed}; none from "
                f"{listed(missing)}. Start the missing sites, then continue the run with the same "
                "command"
            )

    def reason(self, name: str) -> str:
        """Return why a client has no update."""
        connected = self.courier.members.node(name) is not None
        where = "" if connected else "; it is not connected"
        return f"no answer within {self.limits.round_seconds * (1 + self.repeats):g} s{where}"


def _in_turn(
    waiting: list[str], ready: dict[str, ClientResult]
) -> Iterator[tuple[str, ClientResult]]:
    """Yield the results whose predecessors in the roster have been yielded."""
    while waiting and waiting[0] in ready:
        name: Any = waiting.pop(0)
        yield name, ready.pop(name)
