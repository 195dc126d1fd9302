"""Test who may take part: names, keys, models, late comers and ejected clients."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from federation_of_sites import Server, new_site, new_sites, settings_of, with_limits
from local_link import LocalLink

from fedmosaic.config import RunSettings
from fedmosaic.distributed.messages import (
    SiteRequest,
    SiteResponse,
    decode_request,
    decode_response,
    encode,
)
from fedmosaic.distributed.server_record import eject
from fedmosaic.distributed.status import read_status
from fedmosaic.errors import CheckpointError, SiteError
from tiny_scenario import TINY

Answer = Callable[[bytes], bytes]


@pytest.fixture
def settings() -> RunSettings:
    """Two clients of one small model, three rounds of one step, without evaluation."""
    clients = [{**client, "model": "miniature/llama-8x96"} for client in TINY["clients"][:2]]
    changes = {"clients": clients, "evaluation": {"every": 0, "items": 1, "others": False}}
    train = {**TINY["train"], "steps": 1}
    return with_limits(settings_of(TINY, **changes, train=train), join_seconds=5)


def eventually(so: Callable[[], bool]) -> bool:
    """Wait for what a site's thread is about to do."""
    end = time.monotonic() + 10
    while not so() and time.monotonic() < end:
        time.sleep(0.02)
    return so()


def refused_line(server: Server, text: str) -> str:
    [line] = [line for line in server.lines if text in line and "refused" in line][:1]
    return line


def facts_of(site: Answer, **changes: Any) -> Answer:
    """Return a site that says other things of itself."""

    def answer(payload: bytes) -> bytes:
        reply = decode_response(site(payload))
        if reply.kind != "hello" or reply.error:
            return encode(reply)
        facts = {**reply.header["facts"], **changes}
        header = {**reply.header, "facts": facts, "name": changes.get("name", reply.header["name"])}
        return encode(SiteResponse("hello", reply.session, header))

    return answer


def test_an_unknown_name_is_refused_and_told(settings: RunSettings, tmp_path: Path) -> None:
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])
    stranger = new_site(settings, "b", tmp_path / "stranger")
    notified: list[str] = []

    def strange(payload: bytes) -> bytes:
        request = decode_request(payload)
        if request.kind == "finish":
            notified.append(request.header["message"])
        return facts_of(stranger, name="mallory")(payload)

    link = LocalLink({**sites, "node-m": strange})
    server = Server(settings, tmp_path / "server", link)
    server.run()
    assert "no client of this federation is named 'mallory'" in refused_line(server, "mallory")
    assert eventually(lambda: bool(notified)) and "named 'mallory'" in notified[0]


def test_a_second_process_of_one_client_is_refused(settings: RunSettings, tmp_path: Path) -> None:
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])
    copy = new_site(settings, "a", tmp_path / "copy")

    def arrive(link: LocalLink, node: str, request: SiteRequest) -> str:
        if request.kind == "prepare" and "node-z" not in link.present:
            link.connect("node-z", copy)  # when the first one has joined
        return ""

    link = LocalLink(sites, arrive)
    server = Server(settings, tmp_path / "server", link)
    server.run()
    assert refused_line(server, "client 'a' is connected already, from another process")
    assert eventually(lambda: copy.finished) and "connected already" in copy.refused


def test_a_client_that_comes_back_with_another_model_is_refused(
    settings: RunSettings, tmp_path: Path
) -> None:
    sites: dict[str, Any] = dict(new_sites(settings, tmp_path / "sites", ["a", "b"]))
    settings = with_limits(settings, round_seconds=4, min_updates=1)
    swapped: list[str] = []

    def swap(link: LocalLink, node: str, request: SiteRequest) -> str:
        if request.kind == "turn" and node == "node-b" and not swapped:
            swapped.append(node)
            link.disconnect(node)
            link.connect("node-b2", facts_of(sites["node-b"], weights="0" * 32))
            return "lose request"
        return ""

    server = Server(settings, tmp_path / "server", LocalLink(sites, swap))
    server.run()
    status = read_status(tmp_path / "server")
    assert any("b: client 'b' has come back with another model" in line for line in server.lines)
    assert status.sites["b"].missed == 3 and status.sites["a"].missed == 0


def test_a_wrong_signature_is_refused(settings: RunSettings, tmp_path: Path) -> None:
    settings = with_limits(settings, join_seconds=6)
    link = LocalLink(new_sites(settings, tmp_path / "sites", ["a", "b"]))
    server = Server(settings, tmp_path / "server", link)
    server.members.verify = lambda name, challenge, proof: name == "a"
    with pytest.raises(SiteError, match=r"1 of 2 clients are connected after 6 s.*b did not come"):
        server.run()
    assert refused_line(server, "the key is not that of client 'b'")
    status = read_status(tmp_path / "server")
    assert status.state == "stopped" and "key" in status.sites["b"].error


def test_a_client_that_comes_late_takes_part_from_the_next_round_on(
    settings: RunSettings, tmp_path: Path
) -> None:
    settings = with_limits(settings, join_seconds=1, min_clients=1)
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])

    def arrive(link: LocalLink, node: str, request: SiteRequest) -> str:
        if request.kind == "turn" and request.header["round"] == 1:
            link.connect("node-b", sites["node-b"])
        return ""

    link = LocalLink({"node-a": sites["node-a"]}, arrive)
    server = Server(settings, tmp_path / "server", link)
    run = server.run()
    lines = [json.loads(one) for one in (run.folder / "metrics.jsonl").read_text().splitlines()]
    rounds = [line["clients"] for line in lines if line["kind"] == "round"]
    assert rounds == [["a"], ["a"], ["a", "b"]]
    assert any("beginning without b" in line for line in server.lines)


def test_an_ejected_client_takes_part_no_more(settings: RunSettings, tmp_path: Path) -> None:
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])

    def throw_out(link: LocalLink, node: str, request: SiteRequest) -> str:
        if request.kind == "turn" and request.header["round"] == 1 and node == "node-b":
            eject(tmp_path / "server", "b", "its data is broken")
            return "lose request"
        return ""

    server = Server(settings, tmp_path / "server", LocalLink(sites, throw_out))
    server.run()
    status = read_status(tmp_path / "server")
    assert status.sites["b"].state == "ejected" and status.sites["b"].round == 1
    assert eventually(lambda: sites["node-b"].finished)
    assert "its data is broken" in sites["node-b"].refused
    with pytest.raises(CheckpointError, match="has no client 'c'"):
        eject(tmp_path / "server", "c", "")


def test_answers_that_are_not_asked_for_change_nothing(
    settings: RunSettings, tmp_path: Path
) -> None:
    """A replay of an old round, another client's answer, no message at all."""
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])
    old: list[bytes] = []
    wrong = {1: "a replay", 2: "noise"}

    def hostile(payload: bytes) -> bytes:
        request = decode_request(payload)
        answer = sites["node-b"](payload)
        if request.kind == "turn":
            old.append(answer)
            kind = wrong.pop(request.header["round"], "")
            if kind:
                return old[0] if kind == "a replay" else b"no message"
        return answer

    server = Server(
        settings, tmp_path / "server", LocalLink({"node-a": sites["node-a"], "node-b": hostile})
    )
    server.run()
    errors = [line for line in server.lines if line.startswith("b: ")]
    assert any("not the answer to round 2, perhaps a replay" in line for line in errors)
    assert any("message is cut off" in line or "not a fedmosaic" in line for line in errors)
    assert read_status(tmp_path / "server").sites["b"].round == 3


def test_troubles_of_a_link_are_shown_once(settings: RunSettings, tmp_path: Path) -> None:
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])
    sites["node-b"].note_link("lost the connection\x1b[2J (log: /srv/private/node.log)")
    server = Server(settings, tmp_path / "server", LocalLink(sites))
    server.run()
    shown = [line for line in server.lines if "at the site" in line]
    assert shown == ["b: at the site: lost the connection[2J (log: …/node.log)"]
    assert read_status(tmp_path / "server").sites["b"].error.startswith("at the site: lost")
