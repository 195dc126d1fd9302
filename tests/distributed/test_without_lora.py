"""Test a site that sends P, Q and its signature, and no LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from federation_of_sites import Server, new_site, with_limits
from local_link import LocalLink

import fedmosaic
from fedmosaic.config import Scenario
from fedmosaic.distributed.messages import decode_response
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.wire import unpack
from tiny_scenario import TINY

COSTS = ("seconds", "parts", "memory", "bytes", "flops")


def numbers(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in COSTS} for line in lines]


def test_it_has_the_numbers_of_the_only_client_of_its_model(tmp_path: Path) -> None:
    small = {
        **TINY,
        "clients": TINY["clients"][:3],
        "evaluation": {"every": 2, "items": 2},
        "rounds": 2,
    }
    scenario = Scenario.model_validate(small)
    fedmosaic.run(scenario, out=tmp_path / "here", progress=False, trackers=(), workers=1)
    settings = RunFolder.open(tmp_path / "here")[1]
    share = {"a": {}, "b": {"lora": False}, "c": {}}
    link = LocalLink(
        {name: new_site(settings, name, tmp_path, share=one) for name, one in share.items()}
    )
    Server(with_limits(settings), tmp_path / "server", link).run()
    assert numbers(tmp_path / "server") == numbers(tmp_path / "here")
    answers = [(node, decode_response(answer)) for node, answer in link.passed]
    sent = {
        name: {
            key.split(".")[0]
            for node, one in answers
            if node == name and one.kind == "turn"
            for key in unpack(one.body).tensors
        }
        for name in share
    }
    assert sent == {name: {"block", "signature", *(["layer"] * (name != "b"))} for name in share}
