"""Test what the commands for finished runs do with the server's folder of a federation."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation_of_sites import Server, new_sites, with_limits
from local_link import LocalLink

import fedmosaic
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.errors import CheckpointError
from fedmosaic.federation.run_folder import RunFolder
from tiny_scenario import TINY

NAMES = ("a", "d")
SHORT = {
    **TINY,
    "clients": [client for client in TINY["clients"] if client["name"] in NAMES],
    "rounds": 1,
    "train": {**TINY["train"], "steps": 1},
    "evaluation": {"items": 2},
}
SETTINGS = RunSettings(name="tiny", trackers=(), scenario=Scenario.model_validate(SHORT))


def test_a_finished_federation_is_shown_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    link = LocalLink(new_sites(SETTINGS, tmp_path / "sites", NAMES))
    Server(with_limits(SETTINGS), folder, link).run()
    summary = fedmosaic.show(folder)
    assert summary["groups"] == ["one", "two"] and set(summary["clients"]) == set(NAMES)
    own = {name: one["self"]["last"] for name, one in summary["clients"].items()}
    assert None not in own.values() and summary["others"]["out_group"]["last"] is not None
    page = fedmosaic.report(folder).read_text()
    assert "miniature/stages-0" in page and "miniature/llama-8x96" in page
    assert fedmosaic.resume(folder, progress=False).summary == summary
    with pytest.raises(CheckpointError, match="whose clients are at their sites; at a site, give"):
        fedmosaic.export(folder, "a", tmp_path / "lora")
    with pytest.raises(CheckpointError, match="whose clients are at their sites; new tasks"):
        fedmosaic.adapt(folder, tasks=["miniature/stages-1"])


def test_a_federation_that_has_not_finished_is_continued_by_its_server(tmp_path: Path) -> None:
    scenario = Scenario.model_validate({**SHORT, "clients": ["a", "b"]})
    RunFolder(tmp_path / "run").create(SETTINGS.model_copy(update={"scenario": scenario}))
    message = f"continue.* with: fedmosaic server --keys KEYS --out {tmp_path / 'run'}"
    with pytest.raises(CheckpointError, match=message):
        fedmosaic.resume(tmp_path / "run", progress=False)
    with pytest.raises(CheckpointError, match=message):
        fedmosaic.show(tmp_path / "run")
