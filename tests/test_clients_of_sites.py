"""Test scenarios whose clients name their models and tasks at sites of their own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import fedmosaic
from fedmosaic.algorithms import algorithm_names, make_algorithm
from fedmosaic.cli import main
from fedmosaic.config import DeploymentSettings, Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from tiny_scenario import TINY


def scenario_file(tmp_path: Path, clients: list[Any]) -> Path:
    path = tmp_path / "federation.yaml"
    path.write_text(yaml.safe_dump({**TINY, "clients": clients}))
    return path


def test_clients_may_be_bare_names(tmp_path: Path) -> None:
    scenario = load_scenario(scenario_file(tmp_path, ["a", {"name": "b", "r": 2}]))
    assert [client.name for client in scenario.clients] == ["a", "b"]
    assert scenario.models_used == [] and scenario.rank_of("a") == 4 and scenario.rank_of("b") == 2


def test_every_algorithm_can_be_made_before_the_sites_are_known() -> None:
    scenario = Scenario.model_validate({**TINY, "clients": ["a", {"name": "b", "r": 2}]})
    for name in algorithm_names():
        assert make_algorithm(name, scenario, 0).scenario.clients


@pytest.mark.parametrize(
    ("clients", "field"),
    [
        ([TINY["clients"][0], "b"], "clients.1.model"),
        ([{**TINY["clients"][0], "tasks": []}], "clients.0.tasks"),
    ],
)
def test_what_sites_know_cannot_be_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clients: list[Any], field: str
) -> None:
    path = scenario_file(tmp_path, clients)
    message = rf"{path}: {field}: client '[ab]' has none.*`fedmosaic server {path}`"
    with pytest.raises(ConfigError, match=message):
        fedmosaic.run(path, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=message):
        fedmosaic.compare(path, algorithms=["sft"], out=tmp_path / "many", progress=False)
    for command in (
        ["run", str(path)],
        ["compare", str(path), "-a", "sft"],
        ["data", "check", str(path)],
    ):
        assert main(command) == 2
        assert field in capsys.readouterr().err


@pytest.mark.parametrize(("given", "asked", "needed"), [
    (2, 5, 2), (9, 5, 5), (0.5, 5, 3), (1.0, 5, 5), (0.2, 5, 1), (0.01, 5, 1), (0.6, 5, 3),
])  # fmt: skip
def test_fewest_updates_of_a_round(given: float, asked: int, needed: int) -> None:
    settings = DeploymentSettings(min_updates=given)
    assert settings.updates_needed(asked) == needed


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "half", math.nan])
def test_other_numbers_of_updates_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="write a whole number of updates, such as 2, or a share"):
        DeploymentSettings(min_updates=value)  # type: ignore[arg-type]
