"""Answer the server's requests at a site: one client with its own model, data and folder.

A request that comes twice is answered from disk: nothing is trained twice. A site that was killed
goes on from its folder.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from fedmosaic.config import ClientSpec, ShareSettings
from fedmosaic.distributed.messages import (
    SiteRequest,
    SiteResponse,
    challenge_of,
    decode_request,
    decode_response,
    turn_key,
)
from fedmosaic.distributed.outgoing import Outgoing, without_paths
from fedmosaic.distributed.published import publish_pivot
from fedmosaic.distributed.site_folder import SessionFolder, SiteFolder
from fedmosaic.distributed.site_run import (
    CHANGED,
    FAILED,
    UNPREPARED,
    SiteRefusal,
    SiteRun,
    data_of,
)
from fedmosaic.errors import FedMosaicError, LinkError
from fedmosaic.federation.instructions import ClientResult, Instructions
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.runtime import Runtime


class SiteBasis(Protocol):
    """Know the model and the data of a site.

    Attributes:
        name: the client's name.
        share: what the site sends of its own accord.
        labels: under which names the scores of its tasks are sent, where these are other names.
    """

    @property
    def name(self) -> str: ...

    @property
    def share(self) -> ShareSettings: ...

    @property
    def labels(self) -> Mapping[str, str]: ...

    def facts(self) -> Mapping[str, Any]:
        """Return what the server may know of model and data before the first round."""

    def prove(self, challenge: bytes) -> bytes:
        """Sign the server's challenge with the client's key; nothing without keys."""

    def runtime(self, shared: Mapping[str, Any], pivot: bytes) -> tuple[Runtime, ClientSpec]:
        """Return what the client trains with.

        Args:
            shared: the settings that the server sent.
            pivot: what the pivot published; empty where nothing was.
        """

    def prepare(
        self, runtime: Runtime, spec: ClientSpec, shared: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Check and load all that the client needs; return what the server must know of it.

        ``tensors`` in it has kind and shape of each tensor of an update.
        """


class ClientSite:
    """Answer requests; use it as the answering function of a link.

    Args:
        basis: model and data of the site.
        folder: its states, answers and log.
        notice: takes a line for the person who runs the site.

    Attributes:
        finished: whether the server has ended the run, after which the site may stop.
        refused: why the server refuses this site; empty if it does not.
    """

    def __init__(
        self,
        basis: SiteBasis,
        folder: SiteFolder,
        notice: Callable[[str], None] = print,
    ) -> None:
        self.basis = basis
        self.folder = folder
        self.gate = Outgoing(folder.audit, basis.share)
        self.notice = notice
        self.finished = False
        self.refused = ""
        self.process = secrets.token_hex(4)  # lets the server notice that this is another one
        self._link: tuple[int, str] = (0, "")  # number and text of the last trouble of the link
        self._run: SiteRun | None = None

    def __call__(self, payload: bytes) -> bytes:
        """Return the answer to a request; an error is an answer, too.

        Raises:
            LinkError: the disk is full or gone, and so not even an error can be logged.
        """
        try:
            return self._answered(decode_request(payload))
        except OSError as error:  # the log cannot be written, so that nothing may leave
            self.notice(f"the log {self.folder.audit} cannot be written: {error.strerror or error}")
            raise LinkError(f"the site's disk: {error.strerror or 'no access'}") from error

    def _answered(self, request: SiteRequest) -> bytes:
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
            if refusal.reason == CHANGED:  # trying once more mends nothing
                self.finished, self.refused = True, str(refusal)
            return self._failure(request, str(refusal), refusal.reason)
        except FedMosaicError as error:
            self._run = None
            self.notice(f"the request to {request.kind} failed: {error}")
            return self._failure(request, str(error), FAILED)
        except OSError as error:
            self._run = None
            self.notice(f"{error.strerror or error}: {error.filename or ''}")
            return self._failure(request, f"the site's disk: {error.strerror or error}", FAILED)
        except Exception as error:
            self._run = None
            self.notice(traceback.format_exc())
            # The text of an unknown error may hold data, so its kind alone leaves.
            text = f"{type(error).__name__} at the site; its own log has the details"
            return self._failure(request, text, FAILED)

    def _failure(self, request: SiteRequest, error: str, reason: str) -> bytes:
        header = self._own() if request.kind != "hello" else {}
        text = without_paths(error)
        return self.gate.release(
            SiteResponse(request.kind, request.session, header, error=text, reason=reason)
        )

    def _reply(self, request: SiteRequest, body: bytes = b"", **header: Any) -> SiteResponse:
        return SiteResponse(request.kind, request.session, {**self._own(), **header}, body)

    def _own(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.basis.name, "process": self.process}
        return {**found, "link": list(self._link)} if self._link[0] else found

    def note_link(self, text: str) -> None:
        """Tell the server, with the next answer, of a trouble of the connection that is over."""
        self._link = self._link[0] + 1, without_paths(text)[:200]

    # --- joining ------------------------------------------------------------------------------
    def _hello(self, request: SiteRequest) -> bytes:
        place = self.folder.session(request.session)
        challenge = challenge_of(request.session, str(request.header["nonce"]), self.basis.name)
        found = self._reply(
            request,
            facts=dict(self.basis.facts()),
            proof=self.basis.prove(challenge).hex(),
            newest=place.newest(),
            prepared=place.prepared,
        )
        return self.gate.release(found)

    def _publish(self, request: SiteRequest) -> bytes:
        """Publish the pivot's numbers: this site's model is the pivot."""
        runtime, _ = self.basis.runtime(request.header["shared"], b"")
        numbers = publish_pivot(runtime)
        self.notice(f"numbers about the public examples are sent: {len(numbers):,} bytes")
        return self.gate.release(self._reply(request, numbers))

    def _prepare(self, request: SiteRequest) -> bytes:
        place = self.folder.session(request.session)
        run = self._new_run(place, request.header["shared"], request.body)
        place.write_shared(request.header["shared"], request.body, run.prepared)
        self._run = run
        return self.gate.release(self._reply(request, prepared=run.prepared))

    def _new_run(
        self,
        place: SessionFolder,
        shared: Mapping[str, Any],
        pivot: bytes,
        prepared: Mapping[str, Any] | None = None,
    ) -> SiteRun:
        runtime, spec = self.basis.runtime(shared, pivot)
        prepare_torch(runtime.settings)
        found = prepared or self.basis.prepare(runtime, spec, shared)
        for note in runtime.tasks.notes():
            self.notice(note)
        if not place.same("model", str(self.basis.facts()["weights"])):
            raise SiteRefusal(
                f"client {spec.name!r} has another model than it joined this run with", CHANGED
            )
        if not place.same("data", data_of(runtime, spec)):
            raise SiteRefusal(
                f"the data of client {spec.name!r} has changed since it joined this run; put the "
                f"former data back, or remove {place.path} to join anew from the untrained adapter",
                CHANGED,
            )
        place.clear_leftovers()
        return SiteRun(place, runtime, spec, found)

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
        result = client.work(instructions, run.completed(client, request.body))
        update = run.announced(result.update)
        reply = self._reply(
            request,
            update or b"",
            round=number,
            key=key,
            update=update is not None,
            result=self._shown(result),
        )
        answer = self.gate.check(reply, run.schema_in(number))
        place.commit(number, key, answer, client.save if instructions.train else None)
        run.taken(number, instructions.train)
        self.gate.note(reply, answer)
        return answer

    def _shown(self, result: ClientResult) -> dict[str, Any]:
        """Return a result as plain values, with the scores under the names that may leave."""
        if not self.basis.share.metrics:
            result.records, result.fit = [], None
        labels = self.basis.labels
        result.records = [
            replace(record, task=labels.get(record.task, record.task)) for record in result.records
        ]
        return result.to_json()

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
        message = str(request.header.get("message", ""))
        if request.header.get("refused"):
            self.refused = self.refused or message
        else:
            self.notice(message)
        return self.gate.release(self._reply(request))
