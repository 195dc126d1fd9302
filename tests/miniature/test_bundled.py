"""Test the bundled models: they load like any Hugging Face model, are small, and have skills."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from fedmosaic.data.example import Example, Image, Turn
from fedmosaic.miniature.pretraining.architectures import ARCHITECTURES, folder_name
from fedmosaic.miniature.pretraining.skills import skill_report
from fedmosaic.miniature.world.render import render
from fedmosaic.miniature.world.scene import Scene, Thing
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.names import BUNDLED, bundled_names

FOLDERS = sorted(path.parent for path in BUNDLED.glob("*/config.json"))
MODELS = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_every_architecture_is_bundled_in_two_pretrainings_and_named_by_its_folder():
    assert {f"miniature/{name}{seed}" for name in ARCHITECTURES for seed in ("", "@1")} == set(
        bundled_names()
    )
    for folder in FOLDERS:
        report = json.loads((folder / "report.json").read_text())
        assert folder.name == folder_name(report["architecture"], report["seed"])


def test_all_together_stay_under_25_megabytes():
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) < 25_000_000


@MODELS
def test_weights_load_with_plain_transformers(folder: Path):
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    architecture = ARCHITECTURES[json.loads((folder / "report.json").read_text())["architecture"]]
    assert len(model.model.language_model.layers) == architecture.layers
    assert model.config.text_config.model_type == architecture.family
    assert (
        len(AutoTokenizer.from_pretrained(folder)) == model.get_input_embeddings().weight.shape[0]
    )
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())


@pytest.mark.parametrize("seed", [0, 1])
def test_models_of_one_pretraining_share_one_tower(seed: int):
    towers = [
        LlavaForConditionalGeneration.from_pretrained(
            BUNDLED / folder_name(name, seed), dtype=torch.float32
        ).model.vision_tower.state_dict()
        for name in ARCHITECTURES
    ]
    for tower in towers[1:]:
        assert all(torch.equal(weight, tower[name]) for name, weight in towers[0].items())


@MODELS
def test_models_have_the_skills_of_their_report(folder: Path):
    """Compare a small held-out sample with lower limits; the full table is in ``report.json``."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    report = skill_report(
        model,
        AutoTokenizer.from_pretrained(folder),
        model.model.vision_tower,
        questions=1280,
        seed=9,
    )
    promised = json.loads((folder / "report.json").read_text())["skills"]["all"]
    for form in ("choice", "open"):
        assert report["all"][form] > promised[form] - 0.06
    low = {
        skill: report[skill]
        for skill, limit in LOWER_LIMITS.items()
        if report[skill]["choice"] < limit
    }
    assert not low


# Skills that every model has. Finding an image by its content (which image is red?) is not among
# them; see the reports.
LOWER_LIMITS = {
    "all": 0.6, "colour": 0.9, "shape": 0.75, "count": 0.85, "die": 0.8, "dots": 0.8, "clock": 0.7,
    "place": 0.75, "of-image": 0.6, "same": 0.6, "next": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", ["miniature/llama-8x96", "miniature/qwen2-10x112"])
def test_a_model_answers_a_plain_question(name: str):
    backbone = Backbone.load(name)
    picture = Image(render(Scene((Thing("shape", "circle", "red", cell=4),)), "plain"))
    turns = (
        Turn("user", "<image> what colour is it? Options: blue, red, green"),
        Turn("assistant", "red"),
    )
    batch = backbone.collate(
        [backbone.encode(Example("one", turns, (picture,), ("blue", "red", "green")))]
    )
    with torch.no_grad():
        out = backbone.model(**batch.inputs)
    column = int((batch.labels[0] != -100).nonzero()[0, 0])
    assert int(out.logits[0, column - 1].argmax()) == int(batch.labels[0, column])
