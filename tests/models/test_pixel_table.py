"""Test that pictures processed by a table have the bits of the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from fedmosaic.models.backbone import Backbone
from fedmosaic.models.pixel_table import PixelTable


def picture(size: tuple[int, int], seed: int = 0) -> PIL.Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*reversed(size), 3), dtype=np.uint8)
    return PIL.Image.fromarray(values)


class Counted:
    """Count how often a processor is called."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.calls = 0

    def __call__(self, given: PIL.Image.Image) -> Tensor:
        self.calls += 1
        found: Tensor = self.process(given)
        return found


def scaled(given: PIL.Image.Image) -> Tensor:
    values = torch.from_numpy(np.array(given)).permute(2, 0, 1).double()
    return ((values / 255 - 0.3) / torch.tensor([0.2, 0.4, 0.7])[:, None, None]).float()[None]


def test_a_processor_that_scales_pixels_becomes_a_table() -> None:
    process = Counted(scaled)
    table = PixelTable(process)
    for seed in range(5):
        for size in ((20, 30), (16, 16)):
            assert torch.equal(table(picture(size, seed)), scaled(picture(size, seed)))
    assert process.calls == 8  # of each size the first picture, one for the table and two tries


@pytest.mark.parametrize(
    "process",
    [
        lambda given: scaled(given).flip(1),
        lambda given: scaled(given) + scaled(given).mean(),
        lambda given: scaled(given.resize((24, 24))),
    ],
    ids=["other channels", "the whole picture counts", "resized"],
)
def test_other_processors_are_called(process: Any) -> None:
    table = PixelTable(process)
    for seed in range(3):
        assert torch.equal(table(picture((20, 30), seed)), process(picture((20, 30), seed)))
    assert list(table._tables.values()) == [None]


def test_small_pictures_have_no_table() -> None:
    table = PixelTable(scaled)
    assert torch.equal(table(picture((15, 17))), scaled(picture((15, 17))))
    assert torch.equal(table(picture((15, 17), 1)), scaled(picture((15, 17), 1)))


def test_pictures_of_the_miniature_world_are_looked_up() -> None:
    images: Any = Backbone.load("miniature/llama-8x96").images
    size = images.processor.image_processor.crop_size
    sizes = [(size["width"], size["height"]), (50, 20)]
    for each in sizes:
        for seed in range(3):
            given = picture(each, seed)
            assert torch.equal(images.pixels(given), images._processed([given]))
    assert [images.pixels._tables[each] is not None for each in sizes] == [True, False]
