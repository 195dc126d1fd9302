"""Paths of a run hold in any working folder: it is started in one and continued in others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import short_run
import yaml
from row_files import COUNT, item, picture, write

import fedmosaic
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import parse
from fedmosaic.federation.located import located
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.models import names


def in_full(scenario: dict[str, object]) -> Scenario:
    content = {"name": "mine", "scenario": scenario}
    return located(parse(RunSettings, content, "mine")).scenario


def test_a_run_is_continued_from_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    other.mkdir()
    shutil.copytree(names.BUNDLED / "llama-8x96", home / "models" / "own")
    for k in range(3):
        picture(home / "data" / "pictures" / f"{k}.png", k)
        picture(home / "pictures" / f"{k}.png", k)
    write(home / "data", [item(k) for k in range(COUNT)])
    write(home, [item(k) for k in range(COUNT, 2 * COUNT)], "here.json")
    content = {
        "rounds": 2,
        "clients": [{"name": "a", "model": "models/own", "tasks": ["rows.json", "here.json"]}],
        "unseen": ["here.json"],
        "data": {"root": "data", "public": "here.json", "public_size": 4},
        "adapter": {"r": 2, "num_blocks": 1, "target_modules": ["q_proj"]},
        "train": {"steps": 1, "batch_size": 2},
        "evaluation": {"every": 0, "items": 2, "last_items": 2},
    }
    (home / "mine.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(home)
    with pytest.raises(KeyboardInterrupt):
        stop = [short_run.StopAt(1, "a")]
        short_run.start(Path("mine.yaml"), Path("run"), algorithm="sft", callbacks=stop)

    monkeypatch.chdir(other)
    assert fedmosaic.resume("../home/run", progress=False).summary["rounds"]["done"] == 2
    monkeypatch.chdir(tmp_path)
    assert fedmosaic.report("home/run", out="page.html").is_file()
    adapted = fedmosaic.adapt("home/run", every=1, points=1, items=2)["adapted"]["a"]
    assert list(adapted) == [str(home / "here.json")]
    fedmosaic.export("home/run", "a", "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(home / "models" / "own")

    _, settings = RunFolder.open(home / "run")
    assert settings.scenario.data.root == home / "data"
    assert [task.name for task in settings.scenario.clients[0].tasks] == [
        "rows.json",  # below data.root: draws and tables go by this name
        str(home / "here.json"),
    ]


def test_names_that_are_no_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "miniature" / "stages-0").mkdir(parents=True)
    (tmp_path / "smallest").mkdir()
    client = {"name": "a", "model": "miniature/llama-8x96", "tasks": ["miniature/stages-0"]}
    found = in_full({"clients": [client, {**client, "name": "b", "model": "owner/name"}]})
    assert [client.model for client in found.clients] == ["miniature/llama-8x96", "owner/name"]
    assert found.clients[0].tasks[0].name == "miniature/stages-0"
    assert (found.data.root, found.data.public) == (None, "none")
    assert (found.alignment.pivot, found.relevance.model) == ("smallest", "smallest")


def test_paths_are_written_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own.gguf").touch()
    client = {"name": "a", "model": "own", "tasks": ["rows.json"]}
    found = in_full(
        {
            "clients": [client, {**client, "name": "b", "model": "own.gguf"}],
            "alignment": {"pivot": "./own", "refine": {"join": "joined"}},
            "relevance": {"model": "own"},
        }
    )
    own = str(tmp_path / "own")
    assert [client.model for client in found.clients] == [own, f"{own}.gguf"]
    assert (found.alignment.pivot, found.relevance.model) == (own, own)
    assert found.alignment.refine and found.alignment.refine.join == str(tmp_path / "joined")
    assert found.data.root == tmp_path
    assert found.clients[0].tasks[0].name == "rows.json"
    (tmp_path / "public.txt").write_text("one\n\ntwo\n")
    data = in_full({"clients": [client], "data": {"root": "x", "public": "public.txt"}}).data
    assert (data.root, data.public) == (tmp_path / "x", str(tmp_path / "public.txt"))
