"""Test that nothing leaves a site but what is declared, and that its log lists all of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from federation_of_sites import Server, new_site, new_sites, settings_of, with_limits
from local_link import LocalLink

from fedmosaic.algorithms import Message
from fedmosaic.config import RunSettings, ShareSettings
from fedmosaic.distributed.audit import read_audit
from fedmosaic.distributed.messages import SiteResponse, decode_response
from fedmosaic.distributed.outgoing import Outgoing, without_paths
from fedmosaic.errors import SiteError
from fedmosaic.federation.wire import Expected, pack, unpack
from tiny_scenario import TINY

SESSION = "0" * 32
SCHEMA = {"block.0.q_proj.P": Expected("float", (2, 2)), "signature": Expected("float", (3,))}
GOOD = {"block.0.q_proj.P": torch.eye(2), "signature": torch.ones(3)}


def answer(update: Message | None = None, kind: Any = "turn", **header: Any) -> SiteResponse:
    body = b"" if update is None else pack(update)
    return SiteResponse(kind, SESSION, {"name": "a", **header}, body)


ATTEMPTS: dict[str, SiteResponse] = {
    "another tensor": answer(Message({**GOOD, "examples": torch.ones(2)})),
    "a missing tensor": answer(Message({"signature": torch.ones(3)})),
    "another shape": answer(Message({**GOOD, "signature": torch.ones(4)})),
    "numbers that are not finite": answer(
        Message({**GOOD, "signature": torch.full((3,), torch.nan)})
    ),
    "values beside the tensors": answer(Message(GOOD, {"text": "private"})),
    "another value": answer(Message(GOOD), examples=["private"]),
    "another value of a result": answer(Message(GOOD), result={"examples": ["private"]}),
    "another value of a score": answer(Message(GOOD), result={"records": [{"text": "private"}]}),
    "another value of a training": answer(Message(GOOD), result={"fit": {"texts": "private"}}),
    "tensors with a hello": answer(Message(GOOD), kind="hello"),
    "tensors with an answer to a question": answer(Message(GOOD), kind="inquire"),
    "bytes that are no message": replace(answer(), body=b"private"),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_is_not_declared_does_not_leave(attempt: str, tmp_path: Path) -> None:
    gate = Outgoing(tmp_path / "audit.jsonl", ShareSettings())
    assert gate.check(answer(Message(GOOD)), SCHEMA)
    with pytest.raises((SiteError, Exception)) as caught:
        gate.release(ATTEMPTS[attempt], SCHEMA)
    assert "private" not in str(caught.value)
    assert not gate.log.exists()


def test_the_log_is_what_passed_the_link_byte_for_byte(tmp_path: Path) -> None:
    clients = [{**client, "model": "miniature/llama-8x96"} for client in TINY["clients"][:2]]
    settings = with_limits(settings_of(TINY, clients=clients, rounds=2))
    link = LocalLink(new_sites(settings, tmp_path / "sites", ["a", "b"]))
    Server(settings, tmp_path / "server", link).run()
    for name in ("a", "b"):
        passed = [payload for node, payload in link.passed if node == f"node-{name}"]
        lines = read_audit(tmp_path / "sites" / name)
        assert [(line["bytes"], line["sha256"]) for line in lines] == [
            (len(payload), hashlib.sha256(payload).hexdigest()) for payload in passed
        ]
        turns = [line for line in lines if line["kind"] == "turn"]
        sent = [decode_response(payload) for payload in passed if b'"turn"' in payload[:4000]]
        assert len(turns) == len(sent) == 2
        for line, reply in zip(turns, sent, strict=True):
            tensors = unpack(reply.body).tensors
            assert {one["name"] for one in line["tensors"]} == set(tensors)
            for one in line["tensors"]:
                value = tensors[one["name"]]
                assert one["sha256"] == hashlib.sha256(value.numpy().tobytes()).hexdigest()
                assert one["norm"] == pytest.approx(float(value.double().norm()))
            groups = {one["group"] for one in line["tensors"]}
            assert groups == {"colora", "lora", "signature"}
            size = sum(one["bytes"] for one in line["tensors"])
            assert line["bytes"] - size < 40_000  # names, shapes, scores


def test_a_site_sends_no_lora_and_no_scores_where_it_says_so(tmp_path: Path) -> None:
    clients = [{**client, "model": "miniature/llama-8x96"} for client in TINY["clients"][:2]]
    settings = with_limits(settings_of(TINY, clients=clients, rounds=2))
    share = {"lora": False, "metrics": False, "task_names": False}
    sites = {
        "node-a": new_site(settings, "a", tmp_path / "sites", share=share),
        "node-b": new_site(settings, "b", tmp_path / "sites"),
    }
    run = Server(settings, tmp_path / "server", LocalLink(sites)).run()
    lines = read_audit(tmp_path / "sites" / "a")
    assert {one["group"] for line in lines for one in line["tensors"]} == {"colora", "signature"}
    assert not any(line["scores"] for line in lines)
    metrics = [json.loads(one) for one in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["client"] for line in metrics if line["kind"] == "score"} == {"b"}
    text = json.dumps([line for line in metrics if line.get("client") == "a"])
    assert "loss" not in text


def test_scores_leave_under_numbers_where_names_are_private(tmp_path: Path) -> None:
    clients = [{**client, "model": "miniature/llama-8x96"} for client in TINY["clients"][:1]]
    settings: RunSettings = with_limits(settings_of(TINY, clients=clients, rounds=1))
    sites = {"node-a": new_site(settings, "a", tmp_path / "sites", share={"task_names": False})}
    link = LocalLink(sites)
    run = Server(settings, tmp_path / "server", link).run()
    everything = b"".join(payload for _, payload in link.passed)
    assert b"stages" not in everything and b"a task 1" in everything
    assert run.summary["self"]["last"] is not None


def test_paths_of_the_machine_do_not_leave_with_an_error() -> None:
    text = "remove /data/private/run/sessions/ab to join; '/srv/x.jsonl' is missing, not 3/4 or a/b"
    found = without_paths(text)
    assert found == "remove …/ab to join; '…/x.jsonl' is missing, not 3/4 or a/b"
