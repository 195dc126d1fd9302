"""Test that new federations run as they were written."""

from __future__ import annotations

from pathlib import Path

from sources import MODEL, OTHER, json_file, with_test_file

import fedmosaic


def test_models_are_aligned_on_items_of_few_answers(tmp_path: Path) -> None:
    made = fedmosaic.init(
        tmp_path / "fed", data=json_file(tmp_path), models=[MODEL, OTHER], clients=2, public=0.4
    )
    run = fedmosaic.run(
        made.scenario,
        rounds=1,
        overrides=["train.steps=1", "evaluation.others=false", "adapter.r=4"],
        out=tmp_path / "run",
        progress=False,
        trackers=[],
    )
    assert set(run.summary["clients"]) == {"client-0", "client-1"}


def test_a_new_federation_runs(tmp_path: Path) -> None:
    made = fedmosaic.init(
        tmp_path / "fed", data=with_test_file(tmp_path), models=MODEL, split="by:site"
    )
    run = fedmosaic.run(
        made.scenario,
        rounds=1,
        overrides=["train.steps=2", "evaluation.others=false"],
        out=tmp_path / "run",
        progress=False,
        trackers=[],
    )
    assert set(run.summary["clients"]) == {"north", "south", "east"}
