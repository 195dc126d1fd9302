"""Test that a model's fingerprint depends on its weights, tokenizer and shape, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fedmosaic.models import fingerprint as module
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions

NAME = "miniature/llama-8x96"


def copy_of(backbone: Backbone, name: str = NAME, model: Any = None) -> Backbone:
    """Return the same model in another object, which computes its fingerprint again."""
    assert backbone.tower is not None
    return Backbone(name, model or backbone.model, backbone.tokenizer, backbone.tower.processor)


def test_it_depends_on_the_model_not_on_where_or_how_it_was_loaded(tmp_path: Path) -> None:
    backbone = Backbone.load(NAME)
    assert Backbone.load(NAME).fingerprint == backbone.fingerprint
    elsewhere = copy_of(backbone, str(tmp_path))
    assert elsewhere.fingerprint == backbone.fingerprint
    assert Backbone.load("miniature/llama-12x128").fingerprint != backbone.fingerprint
    assert len(backbone.fingerprint) == 32


def test_weights_that_are_exact_in_both_types_have_one_name() -> None:
    half = Backbone.load(NAME, ModelOptions(dtype="bfloat16"))
    full = Backbone.load(NAME).fingerprint
    wide = copy_of(half, model=Backbone.load(NAME).model.bfloat16().float())
    assert half.fingerprint == wide.fingerprint != full


@pytest.mark.parametrize("whole", [True, False])
def test_every_change_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    if not whole:
        monkeypatch.setattr(module, "WHOLE", 64)
        monkeypatch.setattr(module, "SAMPLES", 256)
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
