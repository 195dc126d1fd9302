"""Answer the server's requests at a site: one client with its own model, data and folder.

A request that comes twice is answered from disk: nothing is trained twice. A site that was killed
goes on from its folder.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment.deployment.publish import publish
from fedmosaic.alignment.deployment.published import pack_published
from fedmosaic.config import ClientSpec
from fedmosaic.distributed.messages import Reply, Request, decode_reply, decode_request, digest
from fedmosaic.distributed.outgoing import Outgoing
from fedmosaic.distributed.site_folder import SessionFolder, SiteFolder
from fedmosaic.errors import FedMosaicError, SiteError
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.data_record import DataRecord
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.introduce import begin, introduction, write_introductions
from fedmosaic.federation.item_check import check_items, trained_tasks
from fedmosaic.federation.measure import measured_tasks
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.runtime import Runtime

UNPREPARED = "unprepared"
LOST = "lost"
FAILED = "failed"

MakeRuntime = Callable[[Mapping[str, Any], bytes], tuple[Runtime, ClientSpec]]
"""From the server's shared settings and the published pivot to the runtime of this site."""


@dataclass(frozen=True)
class Identity:
    """Say who a site is.

    Attributes:
        name: the client's name.
        facts: returns what the server may know of its model and data, as plain values.
        prove: signs the server's challenge with the client's key; None without keys.
    """

    name: str
    facts: Callable[[], Mapping[str, Any]]
    prove: Callable[[bytes], bytes] | None = None


class Site:
    """Answer requests; use it as the answering function of a link.

    Args:
        identity: who the site is.
        folder: its states, answers and log.
        make: builds the runtime when the server has sent its settings.
        gate: the way out.
        notice: takes a line for the person who runs the site.

    Attributes:
        finished: whether the server has ended the run, after which the site may stop.
    """

    def __init__(
        self,
        identity: Identity,
        folder: SiteFolder,
        make: MakeRuntime,
        gate: Outgoing,
        notice: Callable[[str], None] = print,
    ) -> None:
        self.identity = identity
        self.folder = folder
        self.make = make
        self.gate = gate
        self.notice = notice
        self.finished = False
        self._run: _Run | None = None

    def __call__(self, payload: bytes) -> bytes:
        """Return the answer to a request; an error is an answer, too."""
        request = decode_request(payload)
        answers: dict[str, Callable[[Request], bytes]] = {
            "hello": self._hello,
            "publish": self._publish,
            "prepare": self._prepare,
            "turn": self._turn,
            "inquire": self._inquire,
            "finish": self._finish,
        }
        try:
            return answers[request.kind](request)
        except _Refusal as refusal:
            return self._failure(request, str(refusal), refusal.reason)
        except FedMosaicError as error:
            self._run = None
            self.notice(f"{request.kind}: {error}")
            return self._failure(request, str(error), FAILED)
        except OSError as error:
            self._run = None
            self.notice(f"{request.kind}: {error.strerror or error}: {error.filename or ''}")
            return self._failure(request, f"the site's disk: {error.strerror or error}", FAILED)
        except Exception as error:
            self._run = None
            self.notice(traceback.format_exc())
            # The text of an unknown error may hold data, so its kind alone leaves.
            text = f"{type(error).__name__} at the site; its own log has the details"
            return self._failure(request, text, FAILED)

    def _failure(self, request: Request, error: str, reason: str) -> bytes:
        name = {"name": self.identity.name} if request.kind != "hello" else {}
        return self.gate.release(
            Reply(request.kind, request.session, name, error=error, reason=reason)
        )

    def _reply(self, request: Request, body: bytes = b"", **header: Any) -> Reply:
        return Reply(request.kind, request.session, {"name": self.identity.name, **header}, body)

    # --- joining ------------------------------------------------------------------------------
    def _hello(self, request: Request) -> bytes:
        place = self.folder.session(request.session)
        challenge = challenge_of(request.session, str(request.header["nonce"]), self.identity.name)
        prove = self.identity.prove
        found = self._reply(
            request,
            facts=dict(self.identity.facts()),
            proof=prove(challenge).hex() if prove else "",
            newest=place.newest(),
            prepared=place.prepared,
        )
        return self.gate.release(found)

    def _publish(self, request: Request) -> bytes:
        """Publish the pivot's numbers: this site's model is the pivot."""
        runtime, _ = self.make(request.header["shared"], b"")
        chosen = runtime.scenario.alignment
        numbers = publish(
            runtime.backbone(chosen.pivot),
            runtime.alignment_data(),
            chosen,
            Placement.of(runtime.scenario.adapter),
        )
        return self.gate.release(self._reply(request, pack_published(numbers)))

    def _prepare(self, request: Request) -> bytes:
        place = self.folder.session(request.session)
        run = self._new_run(place, request.header["shared"], request.body)
        found = introduction(run.runtime, run.spec)
        self.gate.allowed.refuse(found.schema)
        place.write_shared(request.header["shared"], request.body)
        self._run = run
        content = write_introductions({self.identity.name: found})
        return self.gate.release(self._reply(request, introduction=content))

    def _new_run(self, place: SessionFolder, shared: Mapping[str, Any], pivot: bytes) -> _Run:
        runtime, spec = self.make(shared, pivot)
        prepare_torch(runtime.settings)
        measured = measured_tasks(runtime.scenario, spec)
        check_items(runtime, spec, trained_tasks(runtime, spec), measured)
        for note in runtime.tasks.notes():
            self.notice(note)
        if not place.same_data(DataRecord.of(runtime).id):
            raise SiteError(
                f"the data of client {spec.name!r} has changed since it joined this run; put the "
                f"former data back, or remove {place.path} to join anew from the untrained adapter"
            )
        place.clear_leftovers()
        return _Run(place, runtime, spec)

    def _current(self, request: Request) -> _Run:
        """Return the run of a request, from disk where the site was started anew."""
        place = self.folder.session(request.session)
        if self._run is None or self._run.place.path != place.path:
            if not place.prepared:
                raise _Refusal("the site has not been prepared for this run", UNPREPARED)
            self._run = self._new_run(place, *place.shared())
        return self._run

    # --- a round ------------------------------------------------------------------------------
    def _turn(self, request: Request) -> bytes:
        place, header = self.folder.session(request.session), request.header
        number, key = int(header["round"]), turn_key(request)
        if (stored := place.answer(number, key)) is not None:
            self.notice(f"round {number + 1}: trained already; its update is sent once more")
            self.gate.note(decode_reply(stored), stored)
            return stored
        run = self._current(request)
        client = run.client_before(number, header.get("after"))
        instructions = Instructions(**header["instructions"])
        result = client.work(instructions, request.body)
        if not self.gate.allowed.metrics:
            result.records, result.fit = [], None
        reply = self._reply(
            request,
            result.update or b"",
            round=number,
            key=key,
            update=result.update is not None,
            result=result.to_json(),
        )
        answer = self.gate.check(reply, run.schema)
        place.commit(number, key, answer, client.save if instructions.train else None)
        run.taken(number, instructions.train)
        self.gate.note(reply, answer)
        return answer

    def _inquire(self, request: Request) -> bytes:
        """Say what became of a turn: ``done``, or ``unknown`` where its request never came."""
        place, number = self.folder.session(request.session), int(request.header["round"])
        done = place.answer(number, str(request.header["key"])) is not None
        state = "done" if done else "unknown"
        return self.gate.release(
            self._reply(request, round=number, key=request.header["key"], state=state)
        )

    def _finish(self, request: Request) -> bytes:
        place = self.folder.session(request.session)
        newest = place.newest()
        if request.header.get("save") and newest is not None:
            client = self._current(request).client_before(newest + 1, None)
            client.save_adapter(self.folder.adapter)
        self.finished = True
        self.notice(str(request.header.get("message", "")))
        return self.gate.release(self._reply(request))


class _Run:
    """Hold what a site has in memory of the run it takes part in."""

    def __init__(self, place: SessionFolder, runtime: Runtime, spec: ClientSpec) -> None:
        self.place, self.runtime, self.spec = place, runtime, spec
        self.schema = introduction(runtime, spec).schema
        self._client: LocalClient | None = None
        self._working: LocalClient | None = None
        self._at: int | None = None

    def client_before(self, number: int, after: int | None) -> LocalClient:
        """Return the client with its state before a round.

        Args:
            number: the round.
            after: the last round whose update the server has; None: none.

        Raises:
            _Refusal: the site has lost the state of that round.
        """
        found = self.place.state_before(number)
        at = found.round if found else None
        if after is not None and (at is None or at < after):
            raise _Refusal(
                f"client {self.spec.name!r} took part in round {after + 1}, and its folder "
                f"{self.place.path.parent} has no state of it",
                LOST,
            )
        if self._client is None or at != self._at:
            self._client = LocalClient(self.runtime, self.spec)
            if found is None:
                begin(self._client)
            else:
                self._client.load(found.path)
            self._at = at
        # Until the turn is on disk no client is held: an error in it leaves no half state.
        self._working, self._client = self._client, None
        return self._working

    def taken(self, number: int, trained: bool) -> None:
        """Note that the turn of a round is on disk."""
        self._client, self._working = self._working, None
        if trained:
            self._at = number


class _Refusal(SiteError):
    """Tell the server why a request cannot be done, by a reason that it knows."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


def turn_key(request: Request) -> str:
    """Return the hash that identifies a turn: run, round, instructions and download."""
    instructions = json.dumps(request.header["instructions"], sort_keys=True)
    return digest(request.session, str(request.header["round"]), instructions, request.body)


def challenge_of(session: str, nonce: str, name: str) -> bytes:
    """Return what a site signs to prove its name: run, the server's random number and name."""
    return digest("fedmosaic hello", session, nonce, name).encode()
