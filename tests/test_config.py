"""Scenario files: shipped ones load, and every mistake is named with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmosaic import config
from fedmosaic.config import Scenario, Settings
from fedmosaic.config.load import load_scenario, merge, parse, scenario_names
from fedmosaic.errors import ConfigError

SECTIONS = [
    section
    for section in vars(config).values()
    if isinstance(section, type) and issubclass(section, Settings) and section is not Settings
]
CLIENT = {"name": "a", "model": "m", "tasks": ["x"]}


@pytest.mark.parametrize("name", scenario_names())
def test_shipped_scenarios_load(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.clients and scenario.title


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"clients": [CLIENT], "trian": {}}, r"unknown key 'trian'. Did you mean 'train'"),
        ({"clients": [CLIENT], "train": {"lrr": 1}}, r"unknown key 'train.lrr'. Did you mean 'lr'"),
        (
            {"clients": [{**CLIENT, "modle": "m"}]},
            r"unknown key 'clients.0.modle'. Did you mean 'model'",
        ),
        ({"clients": [CLIENT, CLIENT]}, r"clients: two clients are named 'a'"),
        ({"clients": []}, r"clients = \[\]"),
        ({"clients": [{**CLIENT, "tasks": []}]}, r"clients.0.tasks = \[\]"),
        ({"clients": [{"name": "a", "tasks": ["x"]}]}, r"clients.0.model is missing"),
        ({"clients": [CLIENT], "train": {"lr": -1}}, r"train.lr = -1"),
        ({"clients": [CLIENT], "participation": 0}, r"participation = 0"),
    ],
)
def test_mistakes_name_the_field(content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match="^f.yaml: " + message):
        parse(Scenario, content, "f.yaml")


def test_unknown_scenario_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="miniature/quickstart"):
        load_scenario("miniature/quikstart")


def test_overrides_change_single_values() -> None:
    scenario = load_scenario(
        "miniature/quickstart",
        ["train.lr=1e-3", "rounds=2", "relevance.top_k=1", "evaluation.items=null"],
    )
    assert (
        scenario.train.lr,
        scenario.rounds,
        scenario.relevance.top_k,
        scenario.evaluation.items,
    ) == (
        1e-3,
        2,
        1,
        None,
    )
    with pytest.raises(ConfigError, match="write it as key=value"):
        load_scenario("miniature/quickstart", ["rounds"])
    with pytest.raises(ConfigError, match="'rounds' is not a section"):
        load_scenario("miniature/quickstart", ["rounds.x=1"])


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "clients: [{name: a, model: m, tasks: [x]}]\ntrain: {lr: 1e-3, steps: 7}\nrounds: 3\n"
    )
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ntrain: {lr: 0.5}\n")
    scenario = load_scenario(tmp_path / "mine.yaml")
    assert (scenario.train.lr, scenario.train.steps, scenario.rounds) == (0.5, 7, 3)
    (tmp_path / "circle.yaml").write_text("extends: circle.yaml\n")
    with pytest.raises(ConfigError, match="in a circle"):
        load_scenario(tmp_path / "circle.yaml")


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("rounds: 3\nclients: [\n")
    with pytest.raises(ConfigError, match=r"not valid YAML.*\(line \d"):
        load_scenario(path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_scenario(tmp_path / "missing.yaml")


def test_merge_does_not_change_its_arguments() -> None:
    base = {"a": {"b": 1}, "c": [1]}
    assert merge(base, {"a": {"d": 2}, "c": [2]}) == {"a": {"b": 1, "d": 2}, "c": [2]}
    assert base == {"a": {"b": 1}, "c": [1]}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_setting_is_described(section: type[Settings]) -> None:
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name} has no docstring"
        assert field.description.rstrip().endswith("."), f"{section.__name__}.{name}"
