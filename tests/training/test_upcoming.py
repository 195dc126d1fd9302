"""Test that batches are drawn ahead in their order, and images computed together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from fedmosaic.config import ModelSettings
from fedmosaic.data.example import Example
from fedmosaic.federation.pools import ModelPool
from fedmosaic.miniature.benchmark.load import load_task
from fedmosaic.models.feature_cache import FeatureCache
from fedmosaic.training import upcoming
from fedmosaic.training.upcoming import UpcomingBatches

EXAMPLES = load_task("wardrobe-0", train_limit=12).train


class Drawn:
    """Return batches of two examples, and count them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Sequence[Example]:
        self.count += 1
        return EXAMPLES[2 * self.count - 2 : 2 * self.count]


def test_batches_come_in_order_and_no_more_than_are_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upcoming, "AHEAD", 4)
    backbone, drawn = ModelPool(ModelSettings()).backbone("miniature/llama-8x96"), Drawn()
    batches = UpcomingBatches(backbone, drawn, 5)
    counts, ids = [], []
    for _ in range(5):
        ids += [example.id for example in batches()]
        counts.append(drawn.count)
    assert ids == [example.id for example in EXAMPLES[:10]]
    assert counts == [2, 2, 4, 4, 5]


def test_images_of_coming_steps_have_the_bits_of_images_that_go_alone() -> None:
    images = []
    for size in (1, 8):
        backbone = ModelPool(ModelSettings(tower_batch=size)).backbone("miniature/llama-8x96")
        assert backbone.images is not None
        backbone.images.cache = FeatureCache()
        if size > 1:
            UpcomingBatches(backbone, Drawn(), 6)()
            assert len(backbone.images.cache) == len(
                {image.key for example in EXAMPLES for image in example.images}
            )
        items = [backbone.encode(example) for example in EXAMPLES]
        images.append(backbone.collate(items).others["mm_encoder_outputs"]["image"].pooler_output)
    assert all(torch.equal(one, two) for one, two in zip(*images, strict=True))
