"""Test the feature cache, and that images are identified by their pixels without storing them."""

from __future__ import annotations

import errno
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from fedmosaic.data import Image, load_task
from fedmosaic.errors import FedMosaicError
from fedmosaic.models.feature_cache import FeatureCache, StoredFeatures


def stored(*tensors: Tensor) -> StoredFeatures:
    return StoredFeatures(tensors, "layout")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_features_come_back_as_they_were(dtype: torch.dtype) -> None:
    cache = FeatureCache()
    draw = torch.Generator().manual_seed(0)
    values = {
        str(k): stored(*(torch.randn(k + 1, 6, generator=draw).to(dtype) for _ in range(k % 3 + 1)))
        for k in range(5)
    }
    values["transposed"] = stored(torch.arange(24).view(6, 4).T.to(dtype))
    for key, value in values.items():
        cache[key] = value
    assert len(cache) == 6
    assert cache.size == sum(t.nbytes for value in values.values() for t in value.tensors)
    for key, value in values.items():
        found = cache[key]
        assert found.layout == "layout" and len(found.tensors) == len(value.tensors)
        for ours, theirs in zip(found.tensors, value.tensors, strict=True):
            assert torch.equal(ours, theirs) and ours.dtype == dtype, key


def test_a_returned_feature_is_a_copy() -> None:
    cache = FeatureCache()
    cache["a"] = stored(torch.ones(2, 2))
    cache["a"].tensors[0].zero_()
    assert torch.equal(cache["a"].tensors[0], torch.ones(2, 2))


def test_the_oldest_entries_make_room() -> None:
    """Fill the file several times with entries of many sizes; what is there is never wrong."""
    cache = FeatureCache(limit=400)
    draw = random.Random(0)
    for number in range(300):
        size = draw.randrange(1, 30)
        cache[str(number)] = stored(torch.full((size,), float(number)))
        assert str(number) in cache and cache.size <= cache.limit
        for key in list(cache._entries):
            assert (cache[key].tensors[0] == float(key)).all(), (number, key)
    stored_keys = [int(key) for key in cache._entries]
    assert stored_keys == list(range(stored_keys[0], 300)) and len(stored_keys) > 3
    assert cache._file.seek(0, 2) <= cache.limit
    cache["large"] = stored(torch.ones(101))
    assert "large" not in cache and len(cache) == len(stored_keys)


def test_small_features_used_last_are_in_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(recent=6400)
    for number in range(80):
        cache[str(number)] = stored(torch.full((25,), float(number)))  # 100 bytes
        assert (cache[str(number)].tensors[0] == number).all()
    assert list(cache._held) == [str(number) for number in range(16, 80)]
    assert cache._held_bytes == 6400
    cache["large"] = stored(torch.ones(26))
    assert torch.equal(cache["large"].tensors[0], torch.ones(26)) and "large" not in cache._held
    monkeypatch.setattr(cache, "_read", None)  # the file is not needed for
    assert (cache["16"].tensors[0] == 16).all()


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache()

    class Full:
        def seek(self, place: int) -> None: ...

        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_file", Full())
    with pytest.raises(FedMosaicError, match=r"No space left on device; set the variable TMPDIR"):
        cache["b"] = stored(torch.ones(2, 2))
    assert "b" not in cache


def test_a_picture_has_one_key_however_it_is_given(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    drawn, array = Image(lambda: pixels.copy()), Image(pixels)
    assert drawn.key == array.key != Image(pixels.reshape(5, 6, 3)).key
    assert np.array_equal(np.asarray(drawn.load()), pixels)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image(tmp_path / "a.png").load()), pixels)


def test_examples_of_the_benchmark_hold_recipes_and_no_pixels() -> None:
    task = load_task("miniature/wardrobe-0", train_limit=3)
    for example in task.train:
        for image in example.images:
            key, picture = image.key, image.load()
            assert isinstance(image.source, partial)
            held = [*image.source.args, *vars(image).values()]
            assert not any(isinstance(value, np.ndarray | PIL.Image.Image) for value in held)
            assert Image(np.asarray(picture)).key == key
