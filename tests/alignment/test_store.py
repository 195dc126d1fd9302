"""Check that stored alignments are read back unchanged, found by identity, and else refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment import store
from fedmosaic.alignment.identity import Identity, identity_settings
from fedmosaic.alignment.store import (
    Alignment,
    cache_folder,
    find_alignment,
    load_alignment,
    save_alignment,
)
from fedmosaic.config import AlignmentSettings, RefineSettings
from fedmosaic.data import public_examples
from fedmosaic.errors import CheckpointError
from fedmosaic.models.backbone import Backbone
from fedmosaic.packing import pack, unpack

IDENTITY = Identity(
    "miniature/llama-8x96",
    "miniature/qwen2-10x112",
    "m" * 32,
    "p" * 32,
    "d" * 32,
    {"r": 4, "method": "gradients"},
)
TENSORS = {
    f"block.{block}.{module}.{which}": torch.arange(12.0).view(shape) / 7
    for block in range(2)
    for module in ("o_proj", "down_proj")
    for which, shape in (("A", (2, 6)), ("B", (6, 2)))
}
REPORT = {
    "sites": [{"block": 0, "module": "o_proj", "residual_after": 0.25}],
    "cka": {"matrix": [[0.5, 1.0]]},
}
ALIGNMENT = Alignment(TENSORS, IDENTITY, (1, 4), True, REPORT)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDMOSAIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "BUNDLED", tmp_path / "bundled")
    return tmp_path / "cache" / "alignments"


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = save_alignment(ALIGNMENT, tmp_path)
    assert path.name == f"miniature-llama-8x96--miniature-qwen2-10x112--{IDENTITY.key}.safetensors"
    back = load_alignment(path, IDENTITY)
    assert back.identity == IDENTITY and back.report == REPORT
    assert back.settings == IDENTITY.settings
    assert back.layers == (1, 4) and back.scaled is True
    assert set(back.tensors) == set(TENSORS)
    assert all(torch.equal(back.tensors[key], value) for key, value in TENSORS.items())
    shuffled = replace(ALIGNMENT, tensors=dict(reversed(TENSORS.items())))
    assert save_alignment(shuffled, tmp_path / "b").read_bytes() == path.read_bytes()
    assert list(tmp_path.glob(".*")) == []


def test_it_is_found_in_the_package_then_in_the_cache(tmp_path: Path, cache: Path) -> None:
    assert find_alignment(IDENTITY) is None
    assert cache_folder() == cache
    assert save_alignment(ALIGNMENT).parent == cache
    assert find_alignment(IDENTITY) is not None
    save_alignment(replace(ALIGNMENT, report={"from": "package"}), tmp_path / "bundled")
    found = find_alignment(IDENTITY)
    assert found is not None and found.report == {"from": "package"}
    assert find_alignment(replace(IDENTITY, public="e" * 32)) is None
    assert (
        find_alignment(IDENTITY, [tmp_path / "elsewhere"]) is not None
    )  # the package is always looked in


def test_names_do_not_count(cache: Path) -> None:
    save_alignment(ALIGNMENT)
    assert find_alignment(replace(IDENTITY, model="a-copy-of-it", pivot="x")) is not None


def test_without_the_variable_the_cache_is_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDMOSAIC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "fedmosaic" / "alignments"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(IDENTITY, model_weights="x"), "changed since: the model's weights. Align again"),
        (replace(IDENTITY, pivot_weights="x"), "the pivot's weights"),
        (replace(IDENTITY, public="x"), "the public data"),
        (
            replace(IDENTITY, settings={"r": 8, "method": "gradients"}),
            r"the setting 'r' \(4 -> 8\)",
        ),
        (
            replace(IDENTITY, settings={"r": 4, "method": "gradients", "new": 1}),
            r"the setting 'new' \(None -> 1\)",
        ),
    ],
)
def test_a_stale_one_says_what_changed(tmp_path: Path, other: Identity, message: str) -> None:
    path = save_alignment(ALIGNMENT, tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load_alignment(path, other)
    renamed = path.rename(path.with_name(other.file_name))
    with pytest.raises(CheckpointError, match=message):
        find_alignment(other, [tmp_path])
    assert renamed.exists()


def test_what_names_things_known_by_their_content_does_not_count() -> None:
    settings = AlignmentSettings(refine=RefineSettings(join="a"))
    other = settings.model_copy(
        update={"pivot": "x", "size": 7, "refine": RefineSettings(join="b")}
    )
    placement = Placement(r=4, num_blocks=2, modules=("o_proj",))
    counted = identity_settings(settings, placement)
    assert counted == identity_settings(other, placement)
    assert counted["refine"] == {"pseudo_tasks": 900, "size": 16, "in_memory": 64}
    assert counted != identity_settings(other.model_copy(update={"probes": 5}), placement)


@pytest.mark.parametrize(
    ("field", "value"),
    [("r", 5), ("num_blocks", 3), ("modules", ("q_proj",)), ("block_rule", "even")],
)
def test_the_placement_counts(field: str, value: object) -> None:
    settings = AlignmentSettings()
    placement = Placement(r=4, num_blocks=2, modules=("o_proj",))
    before = identity_settings(settings, placement)
    after = identity_settings(settings, replace(placement, **{field: value}))  # type: ignore[arg-type]
    assert {name for name in before if before[name] != after[name]} == {field}


def test_an_older_format_is_refused_by_name_and_not_found_by_identity(cache: Path) -> None:
    path = save_alignment(ALIGNMENT)
    tensors, content = unpack(path.read_bytes())
    del content["layers"], content["scaled"]
    old = path.with_name("a--b--0123456789abcdef.safetensors")
    old.write_bytes(pack(tensors, {**content, "format": 1}))
    path.unlink()
    with pytest.raises(CheckpointError, match=r"has format 1, but .* reads format 2; delete it"):
        load_alignment(old)
    assert find_alignment(IDENTITY) is None


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = save_alignment(ALIGNMENT, tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", b"not at all", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged.*delete it"):
            load_alignment(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_alignment(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "no A and B"),
        ({"block.0.o_proj.A": torch.ones(2, 6)}, r"needs both block\.0\.o_proj\.A and"),
        (
            {"block.0.o_proj.A": torch.ones(2, 6), "block.0.o_proj.B": torch.ones(6, 3)},
            "of one rank",
        ),
        ({"block.0.o_proj.P": torch.ones(2, 2)}, "expected a matrix named block"),
        ({"block.0.o_proj.A": torch.ones(2)}, "expected a matrix named block"),
        ({"block.0.o_proj.A": torch.full((2, 2), float("nan"))}, "NaN"),
    ],
)
def test_only_a_and_b_are_taken(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        save_alignment(replace(ALIGNMENT, tensors=tensors), tmp_path)


def test_identity_of_real_models() -> None:
    models = [Backbone.load(f"miniature/{name}") for name in ("llama-8x96", "qwen2-10x112")]
    examples = public_examples("miniature/public", 5)
    one = Identity.of(*models, examples, {"r": 4, "modules": ("a", "b")})
    assert one == Identity.of(
        *models, public_examples("miniature/public", 5), {"r": 4, "modules": ["a", "b"]}
    )
    assert one.key != Identity.of(*models, examples[:4], {"r": 4, "modules": ("a", "b")}).key
    assert one.key != Identity.of(*models[::-1], examples, {"r": 4, "modules": ("a", "b")}).key
    models[0].name = "/some/private/folder/model"
    assert Identity.of(*models, examples, {}).model == "model"
