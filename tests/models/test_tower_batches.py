"""Test that features do not depend on the images with which they were computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedmosaic.config import ModelSettings
from fedmosaic.federation.pools import ModelPool
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.device_features import DeviceFeatures
from fedmosaic.models.llava_images import LlavaImageFeatures
from fedmosaic.models.tower_batches import MANY, SMALL, TowerBatches
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


def test_exact_batches_have_the_bits_of_images_that_go_alone() -> None:
    sizes: list[int] = []

    def tower(pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return pixels.square()

    batches = TowerBatches("model", tower, 4, exact=True)
    assert torch.equal(batches(PIXELS[:2]), PIXELS[:2].square()) and sizes == [1, 1]
    sizes.clear()
    assert torch.equal(batches(PIXELS), PIXELS.square())
    assert sizes == [4, 1, 1, 1, 1, 4, 1, 1]  # tried once: together and each alone
    sizes.clear()
    assert torch.equal(batches(PIXELS[:3]), PIXELS[:3].square()) and sizes == [4]  # filled up

    def depending(pixels: Tensor) -> Tensor:
        return pixels + len(pixels)

    batches = TowerBatches("model", depending, 4, exact=True)
    assert torch.equal(batches(PIXELS), PIXELS + 1)
    assert batches.size == 1


@pytest.mark.parametrize(("wrong", "most"), [(0, MANY), (MANY, 4)], ids=["equal", "other bits"])
def test_many_small_images_go_in_larger_batches_of_the_same_bits(wrong: int, most: int) -> None:
    sizes: list[int] = []

    def tower(pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return pixels.square() + (len(pixels) == wrong)

    batches, pixels = TowerBatches("model", tower, 4, exact=True), torch.randn(MANY + 9, 4)
    assert batches.most == MANY
    for _ in range(2):
        sizes.clear()
        assert torch.equal(batches(pixels), pixels.square())
    assert max(sizes) == most and sum(sizes) == MANY + 9
    sizes.clear()
    large = torch.randn(MANY, SMALL + 1)
    assert torch.equal(TowerBatches("model", tower, 4, exact=True)(large)[0], large[0].square())
    assert MANY not in sizes


def test_a_run_on_a_cpu_keeps_the_bits_of_every_image() -> None:
    units = [(picture(seed, 32, 32),) for seed in range(11)]
    single, together = (
        ModelPool(ModelSettings(tower_batch=size)).backbone("miniature/llama-8x96").images
        for size in (1, 8)
    )
    assert isinstance(single, LlavaImageFeatures) and isinstance(together, LlavaImageFeatures)
    expected = single.outputs(units, torch.device("cpu"))["image"].pooler_output
    together.cache = type(together.cache)()
    found = together.outputs(units, torch.device("cpu"))["image"].pooler_output
    assert together.fingerprint == single.fingerprint
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


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
