"""Test what follows when a site has a mistake, and when it is mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from federation_of_sites import Server, new_sites, settings_of, with_limits
from local_link import LocalLink

from fedmosaic.config import RunSettings
from fedmosaic.distributed.status import read_status
from fedmosaic.errors import CheckpointError, DataError, SiteError
from fedmosaic.federation.data_record import DataRecord
from tiny_scenario import TINY


@pytest.fixture
def settings() -> RunSettings:
    clients = [{**client, "model": "miniature/llama-8x96"} for client in TINY["clients"][:2]]
    changes = {"clients": clients, "evaluation": {"every": 0, "items": 1, "others": False}}
    train = {**TINY["train"], "steps": 1}
    return with_limits(settings_of(TINY, **changes, train=train, rounds=2), join_seconds=20)


def test_a_mistake_that_is_mended_in_time_stops_nobody(
    settings: RunSettings, tmp_path: Path
) -> None:
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])
    basis, failures = sites["node-b"].basis, [1, 2]
    prepare = basis.prepare

    def failing(*arguments: Any) -> Any:
        if failures:
            failures.pop()
            raise DataError(f"{tmp_path}/private/public.jsonl is missing")
        return prepare(*arguments)

    basis.prepare = failing  # type: ignore[method-assign]
    server = Server(settings, tmp_path / "server", LocalLink(sites))
    run = server.run()
    assert run.summary["rounds"]["done"] == 2 and not failures
    assert "b: …/public.jsonl is missing" in server.lines  # without the folders of the site


def test_a_mistake_that_is_mended_after_the_server_stopped(
    settings: RunSettings, tmp_path: Path
) -> None:
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])
    basis = sites["node-b"].basis
    prepare = basis.prepare
    other = {"public": "0" * 32}
    basis.prepare = lambda *given: {**prepare(*given), **other}  # type: ignore[method-assign]
    with pytest.raises(SiteError, match="different public examples"):
        Server(settings, tmp_path / "server", LocalLink(sites)).run()
    assert "different public examples" in read_status(tmp_path / "server").reason
    other.clear()
    run = Server(settings, tmp_path / "server", LocalLink(sites)).run()
    assert run.summary["rounds"]["done"] == 2


def test_other_data_ends_the_client_in_one_line(
    settings: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_limits(settings, round_seconds=3, min_updates=1)
    sites = new_sites(settings, tmp_path / "sites", ["a", "b"])
    server = Server(settings, tmp_path / "server", LocalLink(sites))
    loop = server.loop()
    loop._round(0)
    loop.checkpoints.wait()  # the second server goes on from it
    fresh = new_sites(settings, tmp_path / "sites", ["a", "b"])
    monkeypatch.setattr(DataRecord, "id", "another")
    link = LocalLink({"node-b": fresh["node-b"]})
    second = Server(with_limits(settings, round_seconds=3, repeats=0), tmp_path / "server", link)
    with pytest.raises(SiteError, match="none from"):
        second.run()
    assert fresh["node-b"].finished and "has changed since it joined" in fresh["node-b"].refused


def test_other_settings_are_named(settings: RunSettings, tmp_path: Path) -> None:
    from fedmosaic.distributed.server_record import ServerRecord

    ServerRecord(tmp_path, settings.model_dump_json()).write()
    scenario = settings.scenario.model_copy(update={"rounds": 7})
    changed = settings.model_copy(update={"scenario": scenario})
    with pytest.raises(CheckpointError, match=r"scenario\.rounds was 2 and is 7 now"):
        ServerRecord(tmp_path, changed.model_dump_json())
