"""Test that features do not depend on the images with which they were computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedmosaic.models.backbone import Backbone
from fedmosaic.models.device_features import DeviceFeatures
from fedmosaic.models.llava_images import LlavaImageFeatures
from fedmosaic.models.tower_batches import TowerBatches
from tests.families.examples import picture

PIXELS = torch.arange(24.0).reshape(6, 4)


def test_batches_have_one_size_and_keep_the_order() -> None:
    sizes: list[int] = []

    def tower(pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return pixels.square()

    batches = TowerBatches("model", tower, 4)
    assert torch.equal(batches(PIXELS), PIXELS.square())
    assert torch.equal(batches(PIXELS[:1]), PIXELS[:1].square())
    assert set(sizes) == {4} and len(sizes) == 4 + 2 + 1  # tried once, at each of four places


def test_a_tower_whose_features_depend_on_the_place_takes_images_alone() -> None:
    def tower(pixels: Tensor) -> Tensor:
        return pixels + torch.arange(len(pixels))[:, None]

    batches = TowerBatches("model", tower, 3)
    with pytest.warns(UserWarning, match="tower_batch: 1"):
        assert torch.equal(batches(PIXELS), PIXELS)


def test_an_image_has_the_same_features_in_any_company() -> None:
    images = Backbone.load("miniature/llama-8x96").images
    assert isinstance(images, LlavaImageFeatures)
    units = [(picture(seed, 32, 32),) for seed in range(5)]
    single = images.outputs(units, torch.device("cpu"))["image"].pooler_output
    images.run_together(4)
    found = images.outputs(units, torch.device("cpu"))["image"].pooler_output
    images.cache = type(images.cache)()
    second = [images.outputs([unit], torch.device("cpu"))["image"] for unit in reversed(units)]
    for one, two, other in zip(single, found, reversed(second), strict=True):
        assert torch.allclose(one, two, atol=1e-5)
        assert torch.equal(two, other.pooler_output[0])


def test_features_unused_for_longest_leave_the_device_first() -> None:
    features, loaded = DeviceFeatures(limit=2 * 40), list[str]()

    def get(name: str) -> Tensor:
        def load() -> dict[str, Tensor]:
            loaded.append(name)
            return {"selected": torch.zeros(10)}

        found: Tensor = features.get(name, load)["selected"]
        return found

    for name in ("a", "b", "a", "c", "a", "b"):
        get(name)
    assert loaded == ["a", "b", "c", "b"] and features.size == 80
    assert features.get("large", lambda: torch.zeros(100)).shape == (100,) and features.size == 80
