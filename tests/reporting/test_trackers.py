"""Check that all trackers receive the same numbers, and that a missing one is reported early."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.evaluation import Record
from fedmosaic.reporting.trackers import make_tracker

ENTRY = {"bytes": {"up": 10, "down": 20}, "seconds": {"total": 1.5}}


def recorder(calls: list[tuple[str, Any]], names: list[str]) -> types.ModuleType:
    module = types.ModuleType("fake")
    for name in names:
        setattr(
            module,
            name,
            lambda *args, _name=name, **options: calls.append((_name, (args, options))),
        )
    return module


@pytest.mark.parametrize(
    ("tracker", "names", "log"),
    [
        ("wandb", ["init", "log", "finish"], "log"),
        ("trackio", ["init", "log", "finish"], "log"),
        (
            "mlflow",
            ["set_experiment", "start_run", "log_params", "log_metrics", "end_run"],
            "log_metrics",
        ),
    ],
)
def test_numbers_arrive(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tracker: str,
    names: list[str],
    log: str,
) -> None:
    calls: list[tuple[str, Any]] = []
    monkeypatch.setitem(sys.modules, tracker, recorder(calls, names))
    active = make_tracker(tracker, tmp_path)
    active.run_started(RunSettings(name="x", scenario=load_scenario(tiny)), 0)
    active.client_finished(3, "a", {"steps": 5, "loss": 0.25})
    scores = [
        Record(3, "a", "miniature/stages-0", "accuracy", 0.5, 4),
        Record(3, "b", "miniature/stages-0", "accuracy", 1.0, 4),
    ]
    active.round_finished(3, ENTRY, scores)
    active.closed()
    (numbers,), options = dict(calls)[log]
    assert options == {"step": 3}
    assert (
        numbers["loss/a"] == 0.25
        and numbers["self/after/mixed"] == 0.5
        and numbers["others/after/mixed/b"] == 1.0
    )
    assert numbers["bytes/up"] == 10 and numbers["seconds/total"] == 1.5
    assert [name for name, _ in calls][-1] == names[-1]


def test_missing_and_unknown_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        make_tracker("wandb", tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'tensorboard'"):
        make_tracker("tensorbord", tmp_path)
