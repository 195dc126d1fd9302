"""Check the refined alignments that come with the package."""

from __future__ import annotations

import pytest

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment import align
from fedmosaic.alignment.store import BUNDLED, load_alignment
from fedmosaic.config.load import load_scenario
from fedmosaic.data import public_examples
from fedmosaic.models.backbone import Backbone

DIGESTS = {
    "miniature/llama-8x96": "d8bd53a8f8a254d0f7e92db21599c610",
    "miniature/qwen2-10x112": "33b8403fc3a72d067401a3c55d0dd8a0",
    "miniature/llama-12x128": "7c65df3f4ad02e69fc7f4420dea9d80a",
}
"""Published runs were made with exactly these A and B."""

LAYERS = {
    "miniature/llama-8x96": (0, 1, 2, 3, 4, 5, 6, 7),
    "miniature/qwen2-10x112": (0, 1, 3, 4, 5, 7, 8, 9),
    "miniature/llama-12x128": (1, 2, 3, 5, 7, 8, 9, 11),
}


def test_their_values_are_the_published_ones() -> None:
    found = [load_alignment(path) for path in BUNDLED.glob("*.safetensors")]
    assert {one.identity.model: one.digest for one in found} == DIGESTS
    assert {one.identity.model: one.layers for one in found} == LAYERS
    assert all(one.scaled for one in found)


def test_the_scenario_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmosaic.alignment.align_models.ModelTraces", None)  # nothing is made
    scenario = load_scenario("miniature/cross-family")
    models = [Backbone.load(name) for name in scenario.models_used]
    pivot = next(model for model in models if model.name == "miniature/llama-8x96")
    assert scenario.alignment.size is not None
    public = public_examples(scenario.data.public, scenario.alignment.size, scenario.data.seed)
    placement = Placement.of(scenario.adapter)
    found = align(models, pivot, public, scenario.alignment, placement)
    assert [one.digest for one in found] == [DIGESTS[model.name] for model in models]
