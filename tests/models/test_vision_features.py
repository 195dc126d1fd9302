"""Test the feature cache, and that images are identified by their pixels without storing them."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from fedmosaic.data import Image, load_task
from fedmosaic.errors import FedMosaicError, ModelError
from fedmosaic.models.vision_features import FeatureCache


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_features_come_back_as_they_were(dtype: torch.dtype) -> None:
    cache = FeatureCache()
    values = {
        str(k): torch.randn(4, 6, generator=torch.Generator().manual_seed(k)).to(dtype)
        for k in range(5)
    }
    for key, value in values.items():
        cache[key] = value
    values["transposed"] = torch.arange(24).view(6, 4).T.to(dtype)
    cache["transposed"] = values["transposed"]
    assert len(cache) == 6 and cache.size == 6 * 24 * values["0"].element_size()
    for key, value in values.items():
        assert torch.equal(cache[key], value) and cache[key].dtype == dtype, key


def test_a_returned_feature_is_a_copy() -> None:
    cache = FeatureCache()
    cache["a"] = torch.ones(2, 2)
    cache["a"].zero_()
    assert torch.equal(cache["a"], torch.ones(2, 2))


def test_the_least_recently_used_entry_is_replaced() -> None:
    cache = FeatureCache(limit=3 * 16)
    for number, key in enumerate("abc"):
        cache[key] = torch.full((2, 2), float(number))
    assert float(cache["a"][0, 0]) == 0
    for number, key in enumerate("def", start=3):
        cache[key] = torch.full((2, 2), float(number))
        cache["a"]
    assert {key for key in "abcdef" if key in cache} == {"a", "e", "f"}
    assert [float(cache[key][0, 0]) for key in "aef"] == [0, 4, 5]
    assert cache._file.seek(0, 2) == cache.limit


def test_errors_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache()
    cache["a"] = torch.ones(2, 2)
    with pytest.raises(ModelError, match=r"\[2, 2\] of one image and \[3, 2\] of another"):
        cache["b"] = torch.ones(3, 2)

    class Full:
        def seek(self, place: int) -> None: ...

        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_file", Full())
    with pytest.raises(FedMosaicError, match=r"No space left on device; set the variable TMPDIR"):
        cache["b"] = torch.ones(2, 2)
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
