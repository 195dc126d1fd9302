"""Test that the cache gives features of prompts while all that decides about them is the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmosaic import files
from fedmosaic.data.example import Example
from fedmosaic.files import cache_root
from fedmosaic.miniature.benchmark.load import load_task
from fedmosaic.models.backbone import Backbone
from fedmosaic.relevance import remembered_prompts
from fedmosaic.relevance.prompt_features import PromptFeatures
from fedmosaic.relevance.remembered_prompts import remembered


def examples_of(seed: int = 0) -> list[Example]:
    return list(load_task("miniature/stages-0", seed=seed, train_limit=3).train)


def features_of(**changes: Any) -> PromptFeatures:
    return PromptFeatures(Backbone.load("miniature/llama-8x96"), **changes)


def entries() -> list[Path]:
    return sorted((cache_root() / "prompts").glob("*.safetensors"))


def forbid(features: PromptFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pass through the model fail."""
    monkeypatch.setattr(features, "_states", None)


def test_remembered_features_are_the_computed_ones_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = features_of(), features_of()
    with remembered(first, examples_of()) as known:
        computed = first(examples_of())
    assert not known
    forbid(second, monkeypatch)
    reread = examples_of()  # as another process would read them
    with remembered(second, reread) as known:
        assert known and torch.equal(second(reread), computed)


def changed_item(examples: Sequence[Example]) -> list[Example]:
    last = examples[-1]
    turns = (replace(last.turns[0], text=last.turns[0].text + "!"), *last.turns[1:])
    return [*examples[:-1], replace(last, turns=turns)]


@pytest.mark.parametrize("change", ["prompt", "fewer", "depth", "states", "weights", "precision"])
def test_what_decides_about_features_decides_about_the_entry(change: str) -> None:
    first, features, examples = features_of(), features_of(), examples_of()
    for one in (first, features):
        one.backbone.model.to(torch.bfloat16).float()  # so that precision alone can differ
    with remembered(first, examples):
        pass
    if change == "prompt":
        examples = changed_item(examples)
    elif change == "fewer":
        examples = examples[:-1]
    elif change == "depth":
        features.layer -= 1
    elif change == "states":
        features.features = "mean"
    elif change == "weights":
        with torch.no_grad():
            next(features.backbone.model.parameters()).mul_(1.5)
    else:
        features.backbone.model.to(torch.bfloat16)
    with remembered(features, examples) as known:
        assert not known
    assert len(entries()) == 2


@pytest.mark.parametrize("damage", [b"", b"no tensors"])
def test_a_damaged_entry_is_as_good_as_none(damage: bytes) -> None:
    features, examples = features_of(), examples_of()
    with remembered(features, examples):
        expected = features(examples)
    entries()[0].write_bytes(damage)
    other = features_of()
    with remembered(other, examples) as known:
        assert not known and torch.equal(other(examples), expected)
    with remembered(features_of(), examples) as known:
        assert known


def test_the_entry_that_was_used_least_recently_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_prompts, "MOST_FILES", 2)
    features, used = features_of(), examples_of()
    for seed in (0, 1, 0, 2):
        with remembered(features, examples_of(seed)):
            pass
        for entry in entries():  # the clock of a disk is coarse
            os.utime(entry, (entry.stat().st_atime, entry.stat().st_mtime - 1))
    assert len(entries()) == 2
    for examples, there in ((used, True), (examples_of(1), False)):
        with remembered(features_of(), examples) as known:
            assert known == there


def test_an_interrupted_answer_and_a_full_disk_leave_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(KeyboardInterrupt), remembered(features_of(), examples_of()):
        raise KeyboardInterrupt
    assert not entries()

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_atomic", full)
    features = features_of()
    with remembered(features, examples_of()) as known:
        assert not known and len(features(examples_of())) == 3
    assert not entries()
