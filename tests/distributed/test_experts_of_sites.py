"""Test that experts and routed views work at sites, with the numbers of one process."""

from __future__ import annotations

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
from tests.federation.short_run import numbers
from tiny_scenario import TINY


@pytest.mark.parametrize("algorithm", ["experts", "fedmosaic-experts"])
def test_sites_exchange_experts_as_one_process_does(tmp_path: Path, algorithm: str) -> None:
    views = ["mixed", "own", "routed-base"]
    scenario: dict[str, Any] = {
        **TINY,
        "rounds": 2,
        "clients": [client for client in TINY["clients"] if client["name"] in "abd"],
        "train": {**TINY["train"], "steps": 1},
        "algorithms": {"fedmosaic-experts": {"across": "moved"}},
        "evaluation": {"every": 0, "items": 4, "others": False, "views": views},
    }
    found = fedmosaic.run(
        Scenario.model_validate(scenario),
        algorithm=algorithm,
        out=tmp_path / "here",
        progress=False,
        trackers=(),
        workers=1,
    )
    settings = RunFolder.open(tmp_path / "here")[1]
    link = LocalLink(new_sites(settings, tmp_path / "sites", ["a", "b", "d"]))
    Server(with_limits(settings), tmp_path / "server", link).run()
    at_sites = numbers(tmp_path / "server")
    turns = [line for line in at_sites if line["kind"] == "client"]
    assert all(line.pop("secret_noise") for line in turns), "only sites have secrets"
    assert at_sites == numbers(tmp_path / "here")
    assert found.summary["evaluation"]["view"] == "mixed"
    replies = [decode_response(answer) for _, answer in link.passed]
    sent = [set(unpack(reply.body).tensors) for reply in replies if reply.kind == "turn"]
    assert all("prototypes" in names for names in sent)
    moved = [any(name.startswith("moved/") for name in names) for names in sent]
    assert set(moved) == {algorithm == "fedmosaic-experts"}
