"""Test that clients of one model are one architecture, whatever path each of them names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from short_run import files, numbers, start

from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.loading import locate
from tiny_scenario import TINY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(locate("miniature/llama-8x96").place, tmp_path / "model"))


def scenario(path: Path, *models: str, **changes: object) -> Path:
    """Write a scenario of clients a, b, … on these models."""
    tasks = ["miniature/stages-0", "miniature/idiom-3", "miniature/idiom-1"]
    clients = [
        {"name": name, "model": model, "tasks": [task]}
        for name, model, task in zip("abc", models, tasks, strict=False)
    ]
    path.write_text(yaml.safe_dump(TINY | {"clients": clients, "rounds": 2} | changes))
    return path


def test_three_spellings_of_a_model_share_their_lora(folder: Path, tmp_path: Path) -> None:
    """Average them as if all named one folder, load the model once, and show names as written."""
    copied = shutil.copytree(folder, tmp_path / "copy")
    spellings = (f"{folder}", f"{folder}/../model", f"{copied}")
    several = scenario(tmp_path / "several.yaml", *spellings)
    single = scenario(tmp_path / "single.yaml", *[f"{folder}"] * 3)
    runs = [
        start(path, tmp_path / path.stem, algorithm="fedavg").folder for path in (several, single)
    ]
    assert numbers(runs[0]) == numbers(runs[1])
    found, expected = (
        {name: content for name, content in files(run).items() if "safetensors" in name}
        for run in runs
    )
    assert found == expected and found
    bases = [
        json.loads((runs[0] / f"adapters/{name}/adapter_config.json").read_text())
        if (runs[0] / f"adapters/{name}/adapter_config.json").exists()
        else json.loads(
            next((runs[0] / f"adapters/{name}").rglob("adapter_config.json")).read_text()
        )
        for name in "abc"
    ]
    assert [base["base_model_name_or_path"] for base in bases] == list(spellings)
    recorded = yaml.safe_load((runs[0] / "config.yaml").read_text())
    assert [client["model"] for client in recorded["scenario"]["clients"]] == list(spellings)


def test_a_runtime_loads_one_copy(folder: Path, tmp_path: Path) -> None:
    path = scenario(tmp_path / "s.yaml", f"{folder}", f"{folder}/", "miniature/llama-8x96")
    runtime = Runtime(RunSettings(name="s", scenario=load_scenario(path)))
    assert len({id(runtime.backbone(name)) for name in runtime.scenario.models_used}) == 1
    assert runtime.adapted(f"{folder}/") is runtime.adapted(f"{folder}")
    assert runtime.architecture("elsewhere") == "elsewhere"


def test_two_ranks_on_two_spellings_are_refused(folder: Path, tmp_path: Path) -> None:
    path = scenario(tmp_path / "s.yaml", f"{folder}", f"{folder}/")
    changed = yaml.safe_load(path.read_text())
    changed["clients"][1]["r"] = 2
    path.write_text(yaml.safe_dump(changed))
    with pytest.raises(ConfigError, match="needs one rank an architecture"):
        Runtime(RunSettings(name="s", algorithm="fedavg", scenario=load_scenario(path)))


def test_stacked_adapters_have_room_for_all_clients_of_a_model(
    folder: Path, tmp_path: Path
) -> None:
    path = scenario(tmp_path / "s.yaml", f"{folder}", f"{folder}/")
    runtime = Runtime(RunSettings(name="s", algorithm="flora", scenario=load_scenario(path)))
    assert runtime.algorithm._limit(f"{folder}") == 2 * (4 + 4)
