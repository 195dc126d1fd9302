"""Test features that processes share: exact, computed once, and optional if the file fails."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import torch

from fedmosaic.miniature.benchmark.load import load_task
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.feature_database import FeatureDatabase
from fedmosaic.models.vision_features import FeatureCache, VisionTower


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_features_are_found_exactly_as_another_process_added_them(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    one, other = (FeatureDatabase(tmp_path / "features") for _ in range(2))
    value = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert other.find("tower", "a") is None
    one.add("tower", "a", value.T)
    other.add("tower", "a", torch.zeros(1))  # the first entry stays
    found = other.find("tower", "a")
    assert found is not None and found.dtype == dtype and torch.equal(found, value.T)
    assert other.find("another tower", "a") is None


def test_nothing_is_added_beyond_the_limit(tmp_path: Path) -> None:
    shared = FeatureDatabase(tmp_path / "features", limit=100_000)
    for number in range(20):
        shared.add("tower", str(number), torch.full((10_000,), float(number)))
    stored = [number for number in range(20) if shared.find("tower", str(number)) is not None]
    assert stored == [0, 1, 2]


def test_a_file_of_another_kind_is_warned_of_once_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "features"
    path.write_bytes(b"no database " * 1000)
    with pytest.warns(UserWarning, match="not shared through .*features: file is not a database"):
        shared = FeatureDatabase(path)
    shared.add("tower", "a", torch.ones(2))
    assert shared.find("tower", "a") is None
    assert path.read_bytes().startswith(b"no database")


def test_a_broken_entry_is_warned_of_once_and_computed_again(tmp_path: Path) -> None:
    shared = FeatureDatabase(tmp_path / "features")
    shared.add("tower", "a", torch.ones(2))
    with sqlite3.connect(tmp_path / "features") as file:
        file.execute("UPDATE features SET packed = ?", (b"half a ten",))
    with pytest.warns(UserWarning, match="not shared through"):
        assert shared.find("tower", "a") is None
    assert shared.find("tower", "a") is None


def test_the_tower_computes_only_images_that_no_process_has_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = Backbone.load("miniature/llama-8x96").tower
    assert tower is not None
    images = [
        image
        for example in load_task("icon-0", train_limit=6, test_limit=1).train
        for image in example.images
    ]
    computed: list[str] = []
    compute = VisionTower._compute
    monkeypatch.setattr(
        VisionTower,
        "_compute",
        lambda self, image: computed.append(image.key) or compute(self, image),
    )
    monkeypatch.setattr(VisionTower, "database", FeatureDatabase(tmp_path / "features"))
    found = []
    for _ in range(2):  # two processes: each begins with nothing of its own
        monkeypatch.setattr(tower, "cache", FeatureCache())
        found.append(tower.features(images))
        assert len(computed) == len({image.key for image in images})
    assert torch.equal(*found)
    monkeypatch.setattr(tower, "cache", FeatureCache())
    monkeypatch.setattr(VisionTower, "database", None)
    assert torch.equal(tower.features(images), found[0])
    assert len(computed) == 2 * len({image.key for image in images})
