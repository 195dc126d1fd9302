"""Run a federation whose clients are at their own sites, from the first hello to the summary."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.data.example import fingerprint
from fedmosaic.distributed.courier import QUIET, Courier, Errand, gather
from fedmosaic.distributed.facts import read_facts
from fedmosaic.distributed.joining import settle_at_server
from fedmosaic.distributed.link import Link
from fedmosaic.distributed.membership import SOON, Membership, Verify
from fedmosaic.distributed.messages import SiteRequest
from fedmosaic.distributed.preparing import describe_sites, introductions, read_prepared
from fedmosaic.distributed.published import (
    SERVER,
    check_published,
    publish_pivot,
    publisher,
)
from fedmosaic.distributed.remote_clients import RemoteClients
from fedmosaic.distributed.round_status import StatusOfRounds
from fedmosaic.distributed.server_record import ServerRecord, ejected
from fedmosaic.distributed.shared import shared_settings
from fedmosaic.distributed.status import FederationStatus, StatusBoard, continued
from fedmosaic.errors import FedMosaicError, SiteError, listed
from fedmosaic.federation.callbacks import Callback, Callbacks
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.round_loop import RoundLoop
from fedmosaic.federation.run import Run
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.run_summary import summary_of
from fedmosaic.federation.runtime import Runtime
from fedmosaic.files import write_atomic

LATE = "it joins after the first round"


class FederationServer:
    """Wait for the sites, prepare them, run the rounds and finish; or go on after a stop.

    Args:
        folder: the run folder.
        settings: as the folder records them.
        link: reaches the sites.
        verify: checks who a client is; None: names are believed.
        callback: is notified of every event of the run.
        notice: takes a line for the person who runs the server.
        given: the settings that the server was started with, as JSON; empty: not compared.
        quiet: seconds of silence after which a site is asked what became of a turn.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: RunSettings,
        link: Link,
        verify: Verify | None = None,
        callback: Callback | None = None,
        notice: Callable[[str], None] = print,
        given: str = "",
        quiet: float = QUIET,
    ) -> None:
        self.folder, self.settings = folder, settings
        self.limits = settings.scenario.deployment
        self.record = ServerRecord(folder.path, given)
        self.names = [client.name for client in settings.scenario.clients]
        rounds = settings.scenario.rounds
        status = FederationStatus(settings.name, self.record.session, rounds=rounds)
        self.killed = continued(status, folder.path)
        self.board = StatusBoard(folder.path, status, notice)
        self.board.set(process=os.getpid())
        for name in self.names:
            self.board.site(name)
        self.members = Membership(
            link,
            self.record.session,
            self.names,
            self.board,
            verify,
            self.record.facts,
            lambda facts, origin: read_facts(facts, origin),
        )
        self.courier = Courier(link, self.members, self.limits, self.board, self._tick, quiet)
        self.callback = Callbacks([*([callback] if callback else []), StatusOfRounds(self.board)])

    def run(self) -> Run:
        """Run the federation to its end.

        Raises:
            FedMosaicError: it cannot go on; the folder can be continued once that is mended.
        """
        prepare_torch(self.settings)
        self.folder.clear_leftovers()
        self.record.write()
        if self.killed:
            self.board.event(self.killed, error=True)
        try:
            run = self._run()
        except BaseException as error:
            reason = str(error) or "by the operator"
            self.board.event(f"stopped: {reason}", error=True)
            self.board.set(state="stopped", waiting_for=[], reason=reason)
            raise
        finally:
            self.callback.closed()
        self.board.set(state="finished", waiting_for=[], seconds_left=0.0)
        return run

    def _run(self) -> Run:
        if not self.settings.settled:
            self._wait_for_sites()
            self._settle(list(self.members.facts))
        if self.folder.latest() is None:
            self.record.prepared.clear()  # before the first round a site may have been mended
        self._prepare([n for n in self.members.facts if n not in self.record.prepared])
        while True:
            loop = self._loop()
            loop.run(pause=lambda: bool(self._looked_for_newcomers()))
            if loop.progress.rounds >= self.settings.scenario.rounds:
                return self._finish(loop)
            self._admit(self._newcomers())

    def _tick(self) -> None:
        """Do what the operator has asked for meanwhile."""
        for name, reason in ejected(self.folder.path).items():
            if name not in self.members.ejected:
                self.members.eject(name, reason)

    # --- before the rounds --------------------------------------------------------------------
    def _wait_for_sites(self) -> None:
        """Wait for all sites, or long enough for enough of them.

        Raises:
            SiteError: too few came in time.
        """
        self.board.set(state="waiting for sites")
        expected = [name for name in self.names if name not in self.members.ejected]

        def missing() -> list[str]:
            return [name for name in expected if self.members.node(name) is None]

        self.board.event(
            f"waiting for {listed(expected)}, for at most {self.limits.join_seconds:g} s"
        )
        if self.courier.wait(lambda: not missing(), self.limits.join_seconds, missing):
            return
        absent, needed = missing(), self.limits.min_clients or len(expected)
        if len(expected) - len(absent) < needed:
            raise SiteError(
                f"{len(expected) - len(absent)} of {len(expected)} clients are connected after "
                f"{self.limits.join_seconds:g} s, and {needed} are needed; {listed(absent)} did "
                "not come. Start them, then continue with the same command"
            )
        self.board.event(f"beginning without {listed(absent)}; {LATE} if it comes")

    def _settle(self, names: Sequence[str]) -> None:
        """Make every choice that depends on the sites, and write it."""
        facts = [read_facts(self.members.facts[n], f"client {n}") for n in names]
        self.settings = settle_at_server(self.settings, facts, self.board.event)
        self.record.facts = dict(self.members.facts)
        self.record.write()
        self.folder.create(self.settings)

    def _prepare(self, names: Sequence[str]) -> None:
        """Let sites load their data, align their models and say what their updates contain.

        Raises:
            SiteError: a site cannot take part.
        """
        if not names:
            return
        self.board.set(state="preparing")
        self._publish()
        limit = self.limits.prepare_seconds
        errands = [self._preparing(name, limit) for name in names]
        found, missing = gather(self.courier, errands)
        for name, reply in found.items():
            self.record.prepared[name] = self._checked(name, reply.header.get("prepared"))
        self.record.write()
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        needed = self.limits.min_clients or len(self.names)
        if missing and len(self.record.prepared) < needed:
            raise SiteError(f"clients could not be prepared within {limit:g} s. {reasons}")
        if missing:
            self.board.event(f"going on without {listed(missing)}. {reasons}", error=True)

    def _preparing(self, name: str, seconds: float) -> Errand:
        """Return the errand that prepares a client, which may be mended until the time is over."""
        return Errand(name, lambda: self.request(name), seconds, attempts=sys.maxsize)

    def _checked(self, name: str, content: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = read_prepared(content, f"client {name}").model_dump(mode="json")
        return found

    def request(self, name: str) -> SiteRequest:
        """Return the request that prepares a client's site."""
        header = {"shared": shared_settings(self.settings)}
        return SiteRequest("prepare", self.record.session, header, self.record.published())

    def _publish(self) -> None:
        """Let the pivot's numbers be published, where models are to be aligned with them."""
        runtime = self._runtime()
        name = publisher(self.settings, lambda: fingerprint(runtime.alignment_data()))
        if name is None or self.record.published():
            return
        if name == SERVER:
            payload = publish_pivot(runtime)
        else:
            header = {"shared": shared_settings(self.settings)}
            errand = Errand(
                name,
                lambda: SiteRequest("publish", self.record.session, header),
                self.limits.prepare_seconds,
            )
            found, missing = gather(self.courier, [errand])
            if missing:
                raise SiteError(f"{name}, whose model is the pivot: {missing[name]}")
            payload = found[name].body
        check_published(payload, self.settings)
        write_atomic(self.record.pivot, payload)
        self.board.event(f"the pivot's numbers are published: {len(payload):,} bytes")

    # --- the rounds ---------------------------------------------------------------------------
    def _runtime(self) -> Runtime:
        """Return the settings, algorithm and models of the clients that have joined."""
        joined = set(self.record.prepared) or set(self.members.facts)
        clients = tuple(c for c in self.settings.scenario.clients if c.name in joined)
        scenario = self.settings.scenario.model_copy(update={"clients": clients})
        return Runtime(self.settings.model_copy(update={"scenario": scenario}))

    def _loop(self) -> RoundLoop:
        """Return the round loop over the clients that have joined, from the last checkpoint on."""
        facts = {n: read_facts(self.record.facts[n], f"client {n}") for n in self._joined()}
        ready = {n: read_prepared(one, f"client {n}") for n, one in self.record.prepared.items()}
        clients = RemoteClients(
            self.courier,
            self.record.session,
            introductions(self.settings, facts, ready),
            self.request,
            describe_sites(self.settings, facts, ready),
        )
        loop = RoundLoop(self._runtime(), clients, self.folder, self.callback)
        checkpoint = self.folder.latest()
        if checkpoint is not None:
            loop.restore(checkpoint)
        else:
            self.folder.truncate(0)
        return loop

    def _joined(self) -> set[str]:
        return set(self.record.prepared)

    def _looked_for_newcomers(self) -> list[str]:
        """See between two rounds who has come; nodes that appear just now may say who they are."""
        self.courier.tick([])
        self.courier.wait(lambda: not self.members.is_asking(), 2 * SOON)
        return self._newcomers()

    def _newcomers(self) -> list[str]:
        """Return the clients that are connected and have not been prepared."""
        return [name for name in self.members.connected() if name not in self._joined()]

    def _admit(self, names: Sequence[str]) -> None:
        """Take in clients that came after the first round; refuse those that do not fit."""
        for name in names:
            try:
                self._settle([*self._joined(), name])
                self._prepare([name])
            except FedMosaicError as error:
                self.members.eject(name, str(error))

    def _finish(self, loop: RoundLoop) -> Run:
        assert isinstance(loop.transport, RemoteClients)
        loop.transport.finish(f"the federation has finished after {loop.progress.rounds} rounds")
        summary = summary_of(loop.settings, self.folder.lines())
        self.folder.write_summary(summary)
        self.callback.run_finished(summary)
        return Run(self.folder.path, summary)
