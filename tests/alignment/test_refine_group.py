"""Check refined groups of models: stored once, used by runs, and extended by joining models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fedmosaic.alignment import Alignment, align
from fedmosaic.alignment.refinement.strength import condition
from fedmosaic.alignment.standalone import StandaloneSettings
from fedmosaic.alignment.store import save_alignment
from fedmosaic.config import RefineSettings, RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.data import public_examples
from fedmosaic.data.example import Example
from fedmosaic.errors import CheckpointError, DataError
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.models.backbone import Backbone

LLAMA, QWEN = "miniature/llama-8x96", "miniature/qwen2-10x112"
QUICK = RefineSettings(pseudo_tasks=4, size=16, in_memory=3)
SOME = RefineSettings(pseudo_tasks=40, size=12, in_memory=10)


@pytest.fixture(scope="module")
def pair() -> list[Backbone]:
    return [Backbone.load(LLAMA), Backbone.load(QWEN)]


@pytest.fixture(scope="module")
def public() -> list[Example]:
    return list(public_examples("miniature/public", 40, 0))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report on few held-out pseudo-tasks."""
    monkeypatch.setattr("fedmosaic.alignment.refinement.pseudo_tasks.HELD_OUT_TASKS", 2)
    monkeypatch.setattr("fedmosaic.alignment.refinement.pseudo_tasks.HELD_OUT_SIZE", 24)


class Aligner:
    """Align with given settings and record the stages."""

    def __init__(self, public: list[Example], **settings: Any) -> None:
        self.public = public
        self.settings = {"modules": ("o_proj",), "block_rule": "even", **settings}
        self.stages: list[str] = []

    def __call__(self, models: list[Backbone], pivot: Backbone, **changes: Any) -> list[Alignment]:
        self.stages.clear()
        chosen = StandaloneSettings(**{**self.settings, **changes})
        return align(
            models,
            pivot,
            self.public,
            chosen.alignment,
            chosen.placement,
            lambda stage, *_: self.stages.append(stage),
        )


def test_a_group_is_refined_once_and_found_again(
    quick: None, pair: list[Backbone], public: list[Example]
) -> None:
    aligner = Aligner(public, r=6, num_blocks=3, refine=QUICK)
    made = aligner(pair, pair[0])
    assert set(aligner.stages) == {"recording pseudo-tasks"}
    assert [one.layers for one in made] == [(2, 4, 7), (2, 6, 9)]
    for one in made:
        assert one.scaled
        assert one.identity.settings["group"] == sorted(model.fingerprint for model in pair)
        report = one.report["refinement"]
        assert report["condition"] <= 9.001 and len(report["own"]) == 2 and len(report["from"]) == 1
        assert condition(one.tensors) == pytest.approx(report["condition"], rel=1e-3)
    second = aligner(pair, pair[0])
    assert not aligner.stages
    assert [one.digest for one in made] == [one.digest for one in second]
    assert aligner(pair[:1], pair[0])[0].identity.key != made[0].identity.key


def test_too_few_examples_and_too_large_a_rank_are_named(
    quick: None, pair: list[Backbone], public: list[Example]
) -> None:
    with pytest.raises(DataError, match="more public examples than 3"):
        Aligner(public[:3], r=6, num_blocks=2, refine=QUICK)(pair, pair[0])
    with pytest.raises(DataError, match=r"rank 97 is above the width 96.*adapter\.shared_r"):
        Aligner(public, r=97, num_blocks=2, refine=QUICK)(pair, pair[0])


def test_a_run_learns_on_refined_pairs_as_they_are(quick: None, tiny: Path) -> None:
    scenario = load_scenario(
        tiny,
        [
            "alignment={refine: {pseudo_tasks: 3, size: 16, in_memory: 2}, size: 40}",
            "adapter={r: 4, alpha: 8, num_blocks: 2, block_rule: even, shared_r: 6}",
            "adapter.shared_modules=[o_proj]",
            f"alignment.pivot={LLAMA}",
            f"relevance.model={LLAMA}",
        ],
    )
    runtime = Runtime(RunSettings(name="refined", algorithm="fedmosaic", scenario=scenario))
    clients = InProcess(runtime).clients
    for name in ("a", "b"):
        client = clients[name]
        aligned = runtime.alignment(client.spec.model)
        assert aligned is not None and aligned.scaled
        layers = client.model.get_submodule(f"base_model.model.{client.backbone.layers_prefix}")
        shared = layers[aligned.layers[0]].self_attn.o_proj.shared_colora
        assert torch.equal(shared["frozen_A"], aligned.tensors["block.0.o_proj.A"])
        assert torch.equal(shared["frozen_B"], aligned.tensors["block.0.o_proj.B"])


# --- joining ------------------------------------------------------------------------------------
def joining(folder: Path, refine: RefineSettings) -> dict[str, Any]:
    return {"refine": refine.model_copy(update={"join": str(folder)})}


def test_a_joining_model_leaves_the_group_unchanged(
    pair: list[Backbone], public: list[Example], tmp_path: Path
) -> None:
    aligner = Aligner(public, r=24, num_blocks=4, refine=SOME)
    llama, qwen = pair
    large = Backbone.load("miniature/llama-12x128")
    group = aligner(pair, llama)
    for one in group:
        save_alignment(one, tmp_path)
    found = aligner([qwen, large, llama], llama, **joining(tmp_path, SOME))
    assert [found[2].digest, found[0].digest] == [one.digest for one in group]
    joined = found[1]
    assert joined.settings["joined"] == group[0].digest and "group" not in joined.settings
    assert joined.scaled and joined.layers == (2, 5, 8, 11) and aligner.stages
    report = joined.report["refinement"]
    assert report["from"][LLAMA][1] > report["from"][LLAMA][0] + 0.02  # than with random A and B
    second = aligner([large], llama, **joining(tmp_path, SOME))
    assert second[0].digest == joined.digest and not aligner.stages


def test_mistakes_in_joining_are_named(
    quick: None, pair: list[Backbone], public: list[Example], tmp_path: Path
) -> None:
    aligner = Aligner(public, r=24, num_blocks=4, refine=QUICK)
    llama, qwen = pair
    for one in aligner(pair, llama):
        save_alignment(one, tmp_path)
    with pytest.raises(CheckpointError, match=r"other data or settings .*'r' \(24 -> 5\)"):
        aligner([qwen], llama, r=5, **joining(tmp_path, QUICK))
    with pytest.raises(
        CheckpointError,
        match=r"no refined alignment of miniature/qwen2-10x112 to join.*--refine",
    ):
        aligner([qwen], qwen, **joining(tmp_path, QUICK))
    save_alignment(aligner([llama], llama)[0], tmp_path)
    with pytest.raises(CheckpointError, match="2 groups"):
        aligner([qwen], llama, **joining(tmp_path, QUICK))


def test_a_larger_group_of_the_package_is_accepted(
    quick: None,
    pair: list[Backbone],
    public: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aligner = Aligner(public, r=24, num_blocks=4, refine=QUICK)
    llama, qwen = pair
    large = Backbone.load("miniature/llama-12x128")
    for one in aligner([llama, qwen, large], llama):
        save_alignment(one, tmp_path / "package")
    monkeypatch.setenv("FEDMOSAIC_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("fedmosaic.alignment.store.BUNDLED", tmp_path / "package")
    found = aligner([llama, large], llama)
    assert not aligner.stages and len(found[0].settings["group"]) == 3
