"""Test features that processes share: exact, computed once, and optional if the file fails."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedmosaic.miniature.benchmark.load import load_task
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.feature_cache import FeatureCache, StoredFeatures
from fedmosaic.models.feature_database import FeatureDatabase
from fedmosaic.models.images import ImageFeatures
from fedmosaic.models.llava_images import LlavaImageFeatures


def stored(tensor: Tensor) -> StoredFeatures:
    return StoredFeatures((tensor,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_features_are_found_exactly_as_another_process_added_them(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    one, other = (FeatureDatabase(tmp_path / "features") for _ in range(2))
    value = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert other.find("tower", "a") is None
    one.add("tower", "a", StoredFeatures((value.T, value[:1]), "two"))
    other.add("tower", "a", stored(torch.zeros(1)))  # the first entry stays
    found = other.find("tower", "a")
    assert found is not None and found.layout == "two"
    assert found.tensors[0].dtype == dtype and torch.equal(found.tensors[0], value.T)
    assert torch.equal(found.tensors[1], value[:1])
    assert other.find("another tower", "a") is None


def test_nothing_is_added_beyond_the_limit(tmp_path: Path) -> None:
    shared = FeatureDatabase(tmp_path / "features", limit=100_000)
    for number in range(20):
        shared.add("tower", str(number), stored(torch.full((10_000,), float(number))))
    added = [number for number in range(20) if shared.find("tower", str(number)) is not None]
    assert added == [0, 1, 2]


def test_a_file_of_another_kind_is_warned_of_once_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "features"
    path.write_bytes(b"no database " * 1000)
    with pytest.warns(UserWarning, match="not shared through .*features: file is not a database"):
        shared = FeatureDatabase(path)
    shared.add("tower", "a", stored(torch.ones(2)))
    assert shared.find("tower", "a") is None
    assert path.read_bytes().startswith(b"no database")


def test_a_broken_entry_is_warned_of_once_and_computed_again(tmp_path: Path) -> None:
    shared = FeatureDatabase(tmp_path / "features")
    shared.add("tower", "a", stored(torch.ones(2)))
    with sqlite3.connect(tmp_path / "features") as file:
        file.execute("UPDATE features SET packed = ?", (b"half a ten",))
    with pytest.warns(UserWarning, match="not shared through"):
        assert shared.find("tower", "a") is None
    assert shared.find("tower", "a") is None


def test_the_tower_computes_only_images_that_no_process_has_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone.load("miniature/llama-8x96")
    features = backbone.images
    assert features is not None
    units = [
        (image,)
        for example in load_task("icon-0", train_limit=6, test_limit=1).train
        for image in example.images
    ]
    different = len({image.key for (image,) in units})
    computed: list[str] = []
    compute = LlavaImageFeatures._compute
    monkeypatch.setattr(
        LlavaImageFeatures,
        "_compute",
        lambda self, unit, processed: (
            computed.append(unit[0].key) or compute(self, unit, processed)
        ),
    )

    def all_features() -> Tensor:
        return torch.stack(features.outputs(units, backbone.device)["image"].pooler_output)

    monkeypatch.setattr(ImageFeatures, "database", FeatureDatabase(tmp_path / "features"))
    found = []
    for _ in range(2):  # two processes: each begins with nothing of its own
        monkeypatch.setattr(features, "cache", FeatureCache())
        found.append(all_features())
        assert len(computed) == different
    assert torch.equal(*found)
    monkeypatch.setattr(features, "cache", FeatureCache())
    monkeypatch.setattr(ImageFeatures, "database", None)
    assert torch.equal(all_features(), found[0])
    assert len(computed) == 2 * different
