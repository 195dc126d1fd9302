"""Answer the server's requests at a site: one client with its own model, data and folder.

A request that comes twice is answered from disk: nothing is trained twice. A site that was killed
goes on from its folder.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment.deployment.publish import publish
from fedmosaic.alignment.deployment.published import pack_published
from fedmosaic.config import ClientSpec
from fedmosaic.distributed.messages import (
    SiteRequest,
    SiteResponse,
    challenge_of,
    decode_request,
    decode_response,
    turn_key,
)
from fedmosaic.distributed.outgoing import Outgoing
from fedmosaic.distributed.site_folder import SessionFolder, SiteFolder
from fedmosaic.distributed.site_run import FAILED, UNPREPARED, SiteRefusal, SiteRun
from fedmosaic.errors import FedMosaicError, SiteError
from fedmosaic.federation.data_record import DataRecord
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.introduce import introduction, write_introductions
from fedmosaic.federation.item_check import check_items, trained_tasks
from fedmosaic.federation.measure import measured_tasks
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.runtime import Runtime

MakeRuntime = Callable[[Mapping[str, Any], bytes], tuple[Runtime, ClientSpec]]
"""From the server's shared settings and the published pivot to the runtime of this site."""


@dataclass(frozen=True)
class SiteIdentity:
    """Say who a site is.

    Attributes:
        name: the client's name.
        facts: returns what the server may know of its model and data, as plain values.
        prove: signs the server's challenge with the client's key; None without keys.
    """

    name: str
    facts: Callable[[], Mapping[str, Any]]
    prove: Callable[[bytes], bytes] | None = None


class ClientSite:
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
        identity: SiteIdentity,
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
        self._run: SiteRun | None = None

    def __call__(self, payload: bytes) -> bytes:
        """Return the answer to a request; an error is an answer, too."""
        request = decode_request(payload)
        answers: dict[str, Callable[[SiteRequest], bytes]] = {
            "hello": self._hello,
            "publish": self._publish,
            "prepare": self._prepare,
            "turn": self._turn,
            "inquire": self._inquire,
            "finish": self._finish,
        }
        try:
            return answers[request.kind](request)
        except SiteRefusal as refusal:
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

    def _failure(self, request: SiteRequest, error: str, reason: str) -> bytes:
        name = {"name": self.identity.name} if request.kind != "hello" else {}
        return self.gate.release(
            SiteResponse(request.kind, request.session, name, error=error, reason=reason)
        )

    def _reply(self, request: SiteRequest, body: bytes = b"", **header: Any) -> SiteResponse:
        return SiteResponse(
            request.kind, request.session, {"name": self.identity.name, **header}, body
        )

    # --- joining ------------------------------------------------------------------------------
    def _hello(self, request: SiteRequest) -> bytes:
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

    def _publish(self, request: SiteRequest) -> bytes:
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

    def _prepare(self, request: SiteRequest) -> bytes:
        place = self.folder.session(request.session)
        run = self._new_run(place, request.header["shared"], request.body)
        found = introduction(run.runtime, run.spec)
        self.gate.allowed.refuse(found.schema)
        place.write_shared(request.header["shared"], request.body)
        self._run = run
        content = write_introductions({self.identity.name: found})
        return self.gate.release(self._reply(request, introduction=content))

    def _new_run(self, place: SessionFolder, shared: Mapping[str, Any], pivot: bytes) -> SiteRun:
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
        return SiteRun(place, runtime, spec)

    def _current(self, request: SiteRequest) -> SiteRun:
        """Return the run of a request, from disk where the site was started anew."""
        place = self.folder.session(request.session)
        if self._run is None or self._run.place.path != place.path:
            if not place.prepared:
                raise SiteRefusal("the site has not been prepared for this run", UNPREPARED)
            self._run = self._new_run(place, *place.shared())
        return self._run

    # --- a round ------------------------------------------------------------------------------
    def _turn(self, request: SiteRequest) -> bytes:
        place, header = self.folder.session(request.session), request.header
        number, key = int(header["round"]), turn_key(request)
        if (stored := place.answer(number, key)) is not None:
            self.notice(f"round {number + 1}: trained already; its update is sent once more")
            self.gate.note(decode_response(stored), stored)
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

    def _inquire(self, request: SiteRequest) -> bytes:
        """Say what became of a turn: ``done``, or ``unknown`` where its request never came."""
        place, number = self.folder.session(request.session), int(request.header["round"])
        done = place.answer(number, str(request.header["key"])) is not None
        state = "done" if done else "unknown"
        return self.gate.release(
            self._reply(request, round=number, key=request.header["key"], state=state)
        )

    def _finish(self, request: SiteRequest) -> bytes:
        place = self.folder.session(request.session)
        newest = place.newest()
        if request.header.get("save") and newest is not None:
            client = self._current(request).client_before(newest + 1, None)
            client.save_adapter(self.folder.adapter)
        self.finished = True
        self.notice(str(request.header.get("message", "")))
        return self.gate.release(self._reply(request))
