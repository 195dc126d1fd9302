"""Check the registry: names, options and presets."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from staged_clients import start
from stub_federation import ARCHITECTURES, federation, updates_of

from fedmosaic.algorithms import (
    PRESETS,
    algorithm_class,
    algorithm_names,
    describe,
    make_algorithm,
    scenario_for,
)
from fedmosaic.config import renamed
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.relevance import relevance_weights, similarity_std
from fedmosaic.reporting.listings import print_listing


def test_all_are_listed_with_a_summary_of_their_own() -> None:
    out = io.StringIO()
    print_listing("algorithms", Console(file=out))
    shown = out.getvalue()
    infos = [describe(name) for name in algorithm_names()]
    assert all(info.name in shown and info.summary in shown for info in infos)
    assert len({info.summary for info in infos}) == len(infos)
    assert all(
        algorithm_class(name).name == name for name in algorithm_names() if name not in PRESETS
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_its_settings_and_nothing_else(name: str) -> None:
    chosen = PRESETS[name]
    scenario = load_scenario("miniature/hetero", ["alignment.method=gradients"])
    plain, changed = (make_algorithm(n, scenario, 0) for n in ("fedmosaic", name))
    assert type(changed) is type(plain) and changed.steps == plain.steps == 11
    before = scenario_for("fedmosaic", scenario).model_dump()
    preset = scenario_for(name, scenario)
    after = preset.model_dump()
    for section, values in chosen.settings.items():
        assert {**before[section], **values} == after.pop(section) != before.pop(section)
    assert {**before.pop("algorithms"), name: {"steps": 11}} == after.pop("algorithms")
    assert before == after and chosen.settings
    assert changed.options == plain.options
    assert scenario_for(name, preset) == preset


def test_a_variant_takes_the_options_of_fedmosaic_and_its_own() -> None:
    own = "algorithms.fedmosaic-interpolation.interpolation=0.5"
    scenario = load_scenario("miniature/hetero", [own])
    variant = make_algorithm("fedmosaic-interpolation", scenario, 0)
    assert variant.options.interpolation == 0.5 and variant.steps == 11
    assert make_algorithm("fedmosaic-no-communication", scenario, 0).steps == scenario.train.steps
    more = load_scenario("miniature/hetero", [own, "algorithms.fedmosaic-interpolation.steps=3"])
    assert make_algorithm("fedmosaic-interpolation", more, 0).steps == 3
    wrong = load_scenario("miniature/hetero", ["algorithms.fedmosaic-interpolation.interpol=1"])
    with pytest.raises(ConfigError, match="Did you mean 'interpolation'"):
        make_algorithm("fedmosaic-interpolation", wrong, 0)


def test_unknown_names_are_errors_that_say_what_to_write() -> None:
    with pytest.raises(ConfigError, match="fedmosaic-uniform"):
        algorithm_class("fedmosaic-unifrom")
    for old, new in renamed.ALGORITHMS.items():
        assert new in algorithm_names()
        with pytest.raises(ConfigError, match=f"{old}.* is now '{new}'"):
            algorithm_class(old)
    scenario = load_scenario("miniature/hetero", ["algorithms.fedmosaic-pull.steps=3"])
    with pytest.raises(ConfigError, match=r"algorithms: .*fedmosaic-interpolation"):
        make_algorithm("sft", scenario, 0)


def test_the_run_folder_records_what_a_preset_set(tiny: Path, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run", "fedmosaic-top2", rounds=1)
    folder, settings = RunFolder.open(run.folder)
    assert settings.algorithm == run.summary["algorithm"] == "fedmosaic-top2"
    assert settings.scenario.relevance.top_k == 2
    lines = [line for line in folder.lines() if line["kind"] == "round"]
    weights = torch.tensor(lines[0]["relevance"]["weights"])
    assert ((weights > 0).sum(1) == 2).all()


@pytest.mark.parametrize(
    ("name", "sources"), [("fedmosaic-top2", 2), ("fedmosaic-random", 2), ("fedmosaic-uniform", 4)]
)
def test_a_preset_sets_the_number_of_sources(name: str, sources: int) -> None:
    algorithm, server = federation(name, ARCHITECTURES)
    algorithm.aggregate(server, updates_of(ARCHITECTURES))
    weights = torch.tensor(server.report["relevance"]["weights"])
    assert ((weights > 0).sum(1) == sources).all() and not weights.diagonal().any()
    assert torch.allclose(weights.sum(1), torch.ones(5), atol=1e-6)


def test_a_relative_temperature_is_in_deviations_of_the_similarities() -> None:
    reports = {}
    for name in ("fedmosaic", "fedmosaic-relative-temperature"):
        algorithm, server = federation(name, ARCHITECTURES)
        algorithm.aggregate(server, updates_of(ARCHITECTURES))
        reports[name] = {
            key: torch.tensor(server.report["relevance"][key]) for key in ("weights", "similarity")
        }
    similarity = reports["fedmosaic-relative-temperature"]["similarity"]
    assert torch.equal(similarity, reports["fedmosaic"]["similarity"])
    assert 0.01 < similarity_std(similarity) < 0.9
    for name, tau in (
        ("fedmosaic", 0.5),
        ("fedmosaic-relative-temperature", 0.5 * similarity_std(similarity)),
    ):
        expected = relevance_weights(similarity, tau)
        assert torch.allclose(reports[name]["weights"], expected, atol=1e-5)
