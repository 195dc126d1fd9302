"""Test the scenario that is written: settings fit the models, and names stay themselves."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from sources import MODEL
from transformers import GPT2Config, GPT2LMHeadModel

from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.models.outline import ModelOutline, outline
from fedmosaic.own_data.scenario_text import ScenarioFacts, scenario_text

SMALL = ModelOutline(MODEL, True, 8, 1_000_000)
FACTS = ScenarioFacts(
    command="fedmosaic init fed",
    folder="fed",
    title="t",
    clients=["a", "b"],
    models=[SMALL, SMALL],
    items=400,
    has_pictures=True,
    is_mixed=False,
    public=0,
)


def scenario(facts: ScenarioFacts, folder: Path) -> Scenario:
    (folder / "scenario.yaml").write_text(scenario_text(facts), encoding="utf-8")
    return load_scenario(folder / "scenario.yaml")


@pytest.mark.parametrize(
    ("parameters", "layers", "lr", "blocks", "batch"),
    [
        (1_500_000, 8, 2e-3, 2, 8),
        (135_000_000, 30, 5e-4, 4, 4),
        (3_000_000_000, 28, 1e-4, 4, 4),
        (0, 0, 1e-4, 4, 4),
        (1_000, 1, 2e-3, 1, 8),
    ],
)
def test_settings_fit_the_largest_model(
    parameters: int, layers: int, lr: float, blocks: int, batch: int, tmp_path: Path
) -> None:
    model = ModelOutline("owner/name", True, layers, parameters)
    found = scenario(replace(FACTS, models=[model, model]), tmp_path)
    assert (found.train.lr, found.train.batch_size) == (lr, batch)
    assert found.adapter.num_blocks == blocks and found.train.lr_shared > found.train.lr
    mixed = scenario(replace(FACTS, models=[SMALL, model]), tmp_path)
    assert mixed.train.lr == lr and mixed.adapter.num_blocks == min(2, blocks)
    assert mixed.data.public == "synthetic"


@pytest.mark.parametrize(("items", "steps"), [(8, 20), (400, 50), (100_000, 100)])
def test_a_round_is_about_one_pass(items: int, steps: int, tmp_path: Path) -> None:
    assert scenario(replace(FACTS, items=items), tmp_path).train.steps == steps


def test_every_setting_has_a_comment() -> None:
    different = ModelOutline("owner/name", True, 8, 1_000_000)
    for facts in (FACTS, replace(FACTS, models=[SMALL, different]), replace(FACTS, public=9)):
        lines = scenario_text(facts).splitlines()
        for before, line in pairwise(lines):
            is_setting = (
                line.startswith("  ") and ":" in line and not line.startswith(("  -", "   "))
            )
            if is_setting:
                assert "#" in line or before.strip().startswith("#"), line
        assert max(map(len, lines)) <= 110


def test_a_model_of_this_machine_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GPT2Config(vocab_size=64, n_embd=8, n_layer=3, n_head=1, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "my $model")
    monkeypatch.chdir(tmp_path)
    model = outline("my $model")
    assert (model.takes_images, model.layers) == (False, 3)
    found = scenario(replace(FACTS, models=[model, model], has_pictures=False), tmp_path)
    assert found.clients[0].model == str(tmp_path / "my $model")


def test_outlines_say_what_models_take() -> None:
    found = outline(MODEL)
    assert found.takes_images and found.layers == 8
    assert 0.5e6 < found.parameters < 2e6
