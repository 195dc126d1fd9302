"""Choose between candidates, and start runs while memory allows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import fedmosaic
from fedmosaic.config import RunSettings
from fedmosaic.experiments import grid
from fedmosaic.experiments.grid import Failure, GridListener
from fedmosaic.experiments.sweep import Sweep
from fedmosaic.experiments.variants import Variant


def test_a_lost_candidate_leaves_nothing_chosen(small: Path) -> None:
    settings = RunSettings(name="x", scenario=fedmosaic.load_scenario(small))
    sweep = Sweep({"train.lr": ["1", "2"]}, "mean", (1000,))
    jobs = sweep.jobs(Path("nowhere"), Variant("sft", "sft"), settings)
    scores = {("train.lr=1",): 0.3, ("train.lr=2",): 0.5}
    for candidate, runs in jobs.items():
        found = {"self": {"last": scores[candidate]}, "others": {"last": 0.1}}
        jobs[candidate] = [
            SimpleNamespace(label=run.label, seed=run.seed, summary=lambda found=found: found)
            for run in runs
        ]  # type: ignore[misc]
    assert sweep.choose(jobs, [])["chosen"] == ["train.lr=2"]
    diverged = [Failure("sft, train.lr=2", 1000, "the loss is not finite")]
    assert sweep.choose(jobs, diverged)["chosen"] == ["train.lr=1"]
    died = [Failure("sft, train.lr=2", 1000, "exit -9", lost=True)]
    assert sweep.choose(jobs, died)["chosen"] is None


def test_the_next_run_waits_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = grid._Grid([], 3, GridListener())
    assert scheduler._has_room()
    first, second = SimpleNamespace(memory=0), SimpleNamespace(memory=40)
    scheduler.running = [first]  # type: ignore[list-item]
    assert not scheduler._has_room()  # the memory of a run is not known yet
    scheduler.peak = first.memory = 100
    for free, room in ((99, False), (101, True), (None, True)):
        monkeypatch.setattr(grid, "available_memory", lambda free=free: free)
        assert scheduler._has_room() is room
    scheduler.running = [first, second]  # type: ignore[list-item]
    for free, room in ((159, False), (161, True)):  # the second may still grow by 60
        monkeypatch.setattr(grid, "available_memory", lambda free=free: free)
        assert scheduler._has_room() is room
    scheduler.running = [first] * 3  # type: ignore[list-item]
    assert not scheduler._has_room()
