"""Test that image features are the same wherever they come from, and so is the loss.

They are read from the cache's file, from the file that processes share, or computed; by a model of
the same dtype or by one whose language model is quantised. The default suite takes a sample;
``FEDMOSAIC_ALL_FAMILIES=1`` takes every family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as trees

from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.feature_cache import FeatureCache
from fedmosaic.models.feature_database import FeatureDatabase
from fedmosaic.models.images import ImageFeatures
from fedmosaic.models.options import ModelOptions
from fedmosaic.training.loss import answer_loss
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES, WITH_IMAGES
from tests.families.sample import sample
from tests.families.test_exact import SEEING, pixels

NAMES = sample(
    SEEING,
    *("llava_qwen2_siglip", "llava_onevision", "qwen2_vl", "qwen3_vl", "internvl", "gemma3"),
    *("gemma4", "pixtral"),
)
Folder = Callable[[str], Path]


def features(batch: Batch) -> list[Tensor]:
    """Return the tensors of image features in a batch."""
    tensors = trees.tree_leaves(vars(batch.others["mm_encoder_outputs"]["image"]))
    return [tensor for tensor in tensors if tensor is not None]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) > 0 and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)
    )


def encoded(model: Backbone, case: str) -> Batch:
    return model.collate([model.encode(EXAMPLES[case])])


@torch.no_grad()
def loss(model: Backbone, batch: Batch) -> float:
    return float(answer_loss(model.model, model, batch))


def on_pixels(model: Backbone, case: str, batch: Batch) -> Batch:
    """Return the batch with pixels in place of features, so that the model runs its own tower."""
    others = {name: value for name, value in batch.others.items() if name != "mm_encoder_outputs"}
    for name, value in pixels(model, EXAMPLES[case], batch.inputs).items():
        others[name] = value.to(model.dtype) if name.startswith("pixel_values") else value
    return replace(batch, others=others)


@pytest.mark.parametrize("case", WITH_IMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_stored_features_are_the_computed_ones(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, case: str
) -> None:
    model = load(name)
    assert model.images is not None
    database = FeatureDatabase(tmp_path / "features")
    monkeypatch.setattr(ImageFeatures, "database", database)
    monkeypatch.setattr(model.images, "cache", FeatureCache())
    spent = model.images.seconds
    computed = features(encoded(model, case))
    assert model.images.seconds > spent
    spent = model.images.seconds
    from_cache = encoded(model, case)
    monkeypatch.setattr(model.images, "cache", FeatureCache())
    from_database = encoded(model, case)
    assert model.images.seconds == spent, "the tower ran although the features were stored"
    assert same(features(from_cache), computed) and same(features(from_database), computed)
    assert loss(model, from_cache) == loss(model, from_database)
    database.close()


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("quantise", ["4bit", "8bit"])
@pytest.mark.parametrize("name", NAMES)
def test_a_quantised_language_model_sees_the_same_features(
    folder_of: Folder, load: Load, name: str, quantise: str
) -> None:
    options = ModelOptions(device="cpu", quantise=quantise)
    plain, packed = load(name), Backbone.load(str(folder_of(name)), options)
    for case in WITH_IMAGES:
        ours, theirs = encoded(plain, case), encoded(packed, case)
        assert same(features(ours), features(theirs))
        assert abs(loss(packed, theirs) - loss(packed, on_pixels(packed, case, theirs))) < 1e-5
    if quantise == "4bit":  # with 8 bits, the inputs of a product are rounded as well
        unpacked = Backbone.load(str(folder_of(name)), ModelOptions(device="cpu"))
        unpack_four_bits(packed, unpacked)
        assert abs(loss(packed, theirs) - loss(unpacked, theirs)) < 1e-5
        assert loss(packed, theirs) != loss(plain, theirs)


def unpack_four_bits(packed: Backbone, plain: Backbone) -> None:
    """Copy the weights of a four-bit model into the same model without quantisation."""
    from bitsandbytes.functional import dequantize_4bit

    for one, other in zip(packed.model.modules(), plain.model.modules(), strict=True):
        if type(one).__name__ == "Linear4bit":
            weight: Any = one.weight
            with torch.no_grad():
                other.weight.copy_(dequantize_4bit(weight.data, weight.quant_state))


@pytest.mark.parametrize("name", sample(SEEING, "qwen3_vl", "llava_onevision"))
def test_features_in_half_precision_are_those_of_the_tower_in_half_precision(
    folder_of: Folder, load: Load, name: str
) -> None:
    half = Backbone.load(str(folder_of(name)), ModelOptions(dtype="bfloat16"))
    for case in WITH_IMAGES:
        batch = encoded(half, case)
        found = features(batch)
        assert {tensor.dtype for tensor in found if tensor.is_floating_point()} == {torch.bfloat16}
        assert not same(found, features(encoded(load(name), case)))
        # In other shapes and layouts a matrix product rounds otherwise.
        assert abs(loss(half, batch) - loss(half, on_pixels(half, case, batch))) < 2e-2
