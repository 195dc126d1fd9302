"""Features that processes share: they come back exactly, the tower looks at no picture that another process has seen, and a file that
cannot be used costs time only."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import torch

from fedmosaic.miniature.benchmark.load import load_task
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.features import FeatureCache, VisionTower
from fedmosaic.models.shared_features import SharedFeatures


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_one_adds_another_finds_as_it_was(dtype: torch.dtype, tmp_path: Path) -> None:
    one, other = (SharedFeatures(tmp_path / "features") for _ in range(2))
    value = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert other.find("tower", "a") is None
    one.add("tower", "a", value.T)
    other.add("tower", "a", torch.zeros(1))  # who came first is right
    found = other.find("tower", "a")
    assert found is not None and found.dtype == dtype and torch.equal(found, value.T)
    assert other.find("another tower", "a") is None


def test_nothing_is_added_beyond_the_limit(tmp_path: Path) -> None:
    shared = SharedFeatures(tmp_path / "features", limit=100_000)
    for number in range(20):
        shared.add("tower", str(number), torch.full((10_000,), float(number)))
    kept = [number for number in range(20) if shared.find("tower", str(number)) is not None]
    assert kept == [0, 1, 2]


def test_a_file_of_another_kind_is_told_once_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "features"
    path.write_bytes(b"no database " * 1000)
    with pytest.warns(UserWarning, match="not shared through .*features: file is not a database"):
        shared = SharedFeatures(path)
    shared.add("tower", "a", torch.ones(2))
    assert shared.find("tower", "a") is None
    assert path.read_bytes().startswith(b"no database")


def test_a_broken_entry_is_told_once_and_computed_again(tmp_path: Path) -> None:
    shared = SharedFeatures(tmp_path / "features")
    shared.add("tower", "a", torch.ones(2))
    with sqlite3.connect(tmp_path / "features") as file:
        file.execute("UPDATE features SET packed = ?", (b"half a ten",))
    with pytest.warns(UserWarning, match="not shared through"):
        assert shared.find("tower", "a") is None
    assert shared.find("tower", "a") is None


def test_the_tower_looks_only_at_what_nobody_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = Backbone.load("miniature/llama-8x96").tower
    assert tower is not None
    images = [
        image
        for example in load_task("icon-0", train_limit=6, test_limit=1).train
        for image in example.images
    ]
    looked: list[str] = []
    compute = VisionTower._compute
    monkeypatch.setattr(
        VisionTower,
        "_compute",
        lambda self, image: looked.append(image.key) or compute(self, image),
    )
    monkeypatch.setattr(VisionTower, "shared", SharedFeatures(tmp_path / "features"))
    found = []
    for _ in range(2):  # two processes: each begins with nothing of its own
        monkeypatch.setattr(tower, "cache", FeatureCache())
        found.append(tower.features(images))
        assert len(looked) == len({image.key for image in images})
    assert torch.equal(*found)
    monkeypatch.setattr(tower, "cache", FeatureCache())
    monkeypatch.setattr(VisionTower, "shared", None)
    assert torch.equal(tower.features(images), found[0])
    assert len(looked) == 2 * len({image.key for image in images})
