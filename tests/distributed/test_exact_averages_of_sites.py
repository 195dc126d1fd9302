"""Test that algorithms with exact averages run at sites, which send what is declared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from federation_of_sites import Server, new_sites, with_limits
from local_link import LocalLink

import fedmosaic
from fedmosaic.config import Scenario
from fedmosaic.distributed.messages import decode_response
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.wire import unpack
from tiny_scenario import TINY

TIMES = ("seconds", "parts", "memory")
SENT = {
    "rolora": [{"B"}, {"A"}],
    "fedex-lora": [{"A", "B"}, {"A", "B"}],
    "fed-sb": [{"P", "frame"}, {"P", "frame"}],
}


def numbers(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


@pytest.mark.parametrize("algorithm", SENT)
def test_sites_send_what_is_declared_and_give_the_numbers_of_one_process(
    tmp_path: Path, algorithm: str
) -> None:
    scenario = {
        **TINY,
        "rounds": 2,
        "clients": [client for client in TINY["clients"] if client["name"] in "ad"],
        "train": {**TINY["train"], "steps": 1},
        "evaluation": {"every": 0, "items": 1, "others": False},
    }
    fedmosaic.run(
        Scenario.model_validate(scenario),
        algorithm=algorithm,
        out=tmp_path / "here",
        progress=False,
        trackers=(),
        workers=1,
    )
    settings = RunFolder.open(tmp_path / "here")[1]
    link = LocalLink(new_sites(settings, tmp_path / "sites", ["a", "d"]))
    Server(with_limits(settings), tmp_path / "server", link).run()
    assert numbers(tmp_path / "server") == numbers(tmp_path / "here")
    sent: dict[int, set[str]] = {}
    for _, answer in link.passed:
        reply = decode_response(answer)
        if reply.kind == "turn":
            names = {key.rpartition(".")[2] for key in unpack(reply.body).tensors}
            sent.setdefault(reply.header["round"], set()).update(names)
    assert [sent[number] for number in (0, 1)] == SENT[algorithm]
