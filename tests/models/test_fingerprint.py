"""Test that a model's fingerprint depends on its weights, tokenizer and shape, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmosaic.models import digest
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions

NAME = "miniature/llama-8x96"

PUBLISHED = {
    "miniature/llama-12x128": "4f28aea857c8f71fe42ed560c4527ce7",
    "miniature/llama-12x128@1": "60d7924d6864ab576d1230937ab78f5f",
    "miniature/llama-8x96": "1acef52a8768c50f37d0e9510ccf5726",
    "miniature/llama-8x96@1": "34f93c519c90aca1dc3da0805db3c42b",
    "miniature/qwen2-10x112": "195023aabc1fa128c69aa9b536771e86",
    "miniature/qwen2-10x112@1": "76e14f0699b2ce2ffc40ac393505a621",
}


def copy_of(backbone: Backbone, name: str = NAME, model: Any = None) -> Backbone:
    """Return the same model in another object, which computes its fingerprint again."""
    return Backbone(name, model or backbone.model, backbone.tokenizer, backbone.processor)


def test_it_depends_on_the_model_not_on_where_or_how_it_was_loaded(tmp_path: Path) -> None:
    backbone = Backbone.load(NAME)
    assert Backbone.load(NAME).fingerprint == backbone.fingerprint
    elsewhere = copy_of(backbone, str(tmp_path))
    assert elsewhere.fingerprint == backbone.fingerprint
    assert Backbone.load("miniature/llama-12x128").fingerprint != backbone.fingerprint
    assert len(backbone.fingerprint) == 32


@pytest.mark.parametrize("name", PUBLISHED)
def test_bundled_models_keep_theirs(name: str) -> None:
    """Bundled alignments are found by it."""
    assert Backbone.load(name, ModelOptions(device="cpu")).fingerprint == PUBLISHED[name]


CHANGES: dict[str, Callable[[Any, Any], object]] = {
    "rope": lambda c, _: c.text_config.rope_parameters.update(rope_theta=5e4),
    "heads of the tower": lambda c, _: setattr(c.vision_config, "num_attention_heads", 2),
    "layer of the tower": lambda c, _: setattr(c, "vision_feature_layer", -2),
    "size of images": lambda _, p: setattr(p, "size", {"height": 61, "width": 60}),
    "mean of images": lambda _, p: setattr(p, "image_mean", [0.4, 0.5, 0.5]),
    "tiles": lambda c, _: setattr(c, "image_grid_pinpoints", [[60, 120]]),
    "softcap": lambda c, _: setattr(c.text_config, "final_logit_softcapping", 30.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_settings_that_no_weight_shows_change_it(change: str) -> None:
    backbone = Backbone.load(NAME, ModelOptions(device="cpu"))
    before = backbone.fingerprint
    CHANGES[change](backbone.model.config, backbone.processor.image_processor)
    assert copy_of(backbone).fingerprint != before


def test_weights_that_are_exact_in_both_types_have_one_name() -> None:
    half = Backbone.load(NAME, ModelOptions(dtype="bfloat16"))
    full = Backbone.load(NAME).fingerprint
    wide = copy_of(half, model=Backbone.load(NAME).model.bfloat16().float())
    assert half.fingerprint == wide.fingerprint != full


@pytest.mark.parametrize("whole", [True, False])
def test_every_change_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    if not whole:
        monkeypatch.setattr(digest, "WHOLE", 64)
        monkeypatch.setattr(digest, "SAMPLES", 256)
    backbone = Backbone.load(NAME)
    before = backbone.fingerprint
    with torch.no_grad():
        weight = backbone.model.get_submodule("model.language_model.layers.5.mlp.down_proj").weight
        if whole:
            weight[3, 7] += 1e-3
        else:
            weight[:, 7] += 1e-3  # one column of 256: the odd stride comes by
    changed = copy_of(backbone)
    assert changed.fingerprint != before
    backbone.tokenizer.chat_template += " "
    assert copy_of(backbone).fingerprint != changed.fingerprint
