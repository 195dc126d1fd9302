"""Test what is known about the data sets of DRAKE and HFLB, and how missing ones are had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmosaic.cli import main
from fedmosaic.config.load import load_scenario
from fedmosaic.data.registry import load_task
from fedmosaic.data.sources import BENCHMARKS, SOURCES, how_to_get, sources_of
from fedmosaic.errors import DataError
from tests.drake.fake_hub import data_set


def test_what_a_scenario_lacks_is_said_before_models_are_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("drake/homo-llama-1b", "hflb/homo-llama-1b"):
        assert main(["run", name, "--set", f"data.root={tmp_path}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        benchmark_name = name.partition("/")[0]
        assert f"fedmosaic data download {benchmark_name} --to {tmp_path} --only " in line
    assert line.endswith("GQA,Abstract,SNLI-VE,COCOQA,NLVR2_feddat,VizWiz-Original,AQUA`")


def test_how_missing_data_sets_are_had(tmp_path: Path) -> None:
    assert how_to_get(["miniature/stages-0", "own.json", "VSR-9"], tmp_path) == ""
    line = how_to_get(["IRFL-3", "VSR/0", "IRFL-1", "GQA-10"], tmp_path)
    drake, hflb = line.split("; get what is missing with ")[1:]
    assert line.startswith(f"{tmp_path} lacks 2 data sets of DRAKE")
    assert drake.startswith(f"`fedmosaic data download drake --to {tmp_path} --only VSR,IRFL`")
    assert hflb == f"`fedmosaic data download hflb --to {tmp_path} --only GQA`"
    for path in data_set("VSR"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert how_to_get(["VSR-0"], tmp_path) == ""


def test_one_missing_task_says_how_it_is_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder .*none does not exist; .*data download drake"):
        load_task("VSR-0", root=tmp_path / "none")
    with pytest.raises(DataError, match=r"unknown task 'VSR-0' .*drake --to .* --only VSR`$"):
        load_task("VSR-0", root=tmp_path)


def test_the_sources_are_the_tasks_of_the_scenarios() -> None:
    for name, base in (("drake", "drake/hetero-llama-1b-3b"), ("hflb", "hflb/homo-llama-1b")):
        scenario = load_scenario(base)
        tasks = [task for client in scenario.clients for task in client.tasks]
        sources = sources_of(name)
        seen = [task for source in sources if not source.unseen for task in source.tasks]
        unseen = [task for source in sources if source.unseen for task in source.tasks]
        assert sorted(seen) == sorted(task.name for task in tasks)
        assert sorted(unseen) == sorted(task.name for task in scenario.unseen)
        opened = [f"{s.name}-{k}" for s in sources for k in s.open_ended]
        assert opened == sorted(task.name for task in tasks if task.kind == "open")
        assert scenario.data.root == BENCHMARKS[name].root
    assert all(s.licence and s.address.startswith("http") for s in SOURCES.values())


def test_the_list_of_data_sets_has_their_licences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "datasets", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    for source in SOURCES.values():
        entry = found[f"{source.name}-<k>"]
        assert entry["count"] == len(source.subsets)
        assert entry["licence"] == source.licence
        assert entry["needs"] == f"fedmosaic data download {source.benchmark}"
