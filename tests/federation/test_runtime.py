"""Test runtimes with fixed settings, budgets, results and callbacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.evaluation import Record
from fedmosaic.federation.callbacks import EVENTS, Callback, Callbacks
from fedmosaic.federation.instructions import ClientResult
from fedmosaic.federation.run import new_run
from fedmosaic.federation.runtime import Runtime
from fedmosaic.training.loop import FitReport


def settings_of(tiny: Path, *overrides: str) -> RunSettings:
    return RunSettings(name="tiny", scenario=load_scenario(tiny, overrides))


def test_another_runtime_shares_what_its_settings_do_not_change(tiny: Path) -> None:
    runtime = Runtime(settings_of(tiny))
    other = runtime.with_settings(settings_of(tiny, "train.steps=7", "adapter.r=2"))
    assert other.models is runtime.models and other.tasks is runtime.tasks
    assert (runtime.algorithm.steps, other.algorithm.steps) == (3, 7)
    assert runtime.scenario.adapter.r == 4
    assert runtime.with_settings(settings_of(tiny, "data.test=2")).tasks is not runtime.tasks
    assert (
        runtime.with_settings(settings_of(tiny, "models.device=cpu")).models is not runtime.models
    )


def test_other_steps_are_another_algorithm(tiny: Path) -> None:
    runtime = Runtime(settings_of(tiny))
    assert runtime.algorithm_with(None) is runtime.algorithm
    assert runtime.algorithm_with(1).steps == 1 and runtime.algorithm.steps == 3


def test_a_budget_needs_someone_to_resolve_it(tiny: Path, tmp_path: Path) -> None:
    changes = ["budget=flops", "relevance.model=miniature/llama-8x96"]
    settings = settings_of(tiny, *changes, "alignment.pivot=miniature/llama-8x96")
    with pytest.raises(ConfigError, match="budget: flops needs a rehearsal"):
        new_run(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_result_crosses_a_pipe_unchanged() -> None:
    record = Record(1, "a", "task", "accuracy", 0.5, 2)
    fit = FitReport(steps=3, loss=0.5)
    result = ClientResult(b"update", "", [record], fit, {"total": 5}, {"train": 0.25}, 7)
    sent = json.loads(json.dumps(result.to_json()))
    assert ClientResult.from_json(sent, b"update") == result
    fields = ["steps", "loss", "samples", "tokens", "flops", "parts", "seconds", "memory"]
    assert list(result.figures()) == fields
    absent = ClientResult(failure="diverged")
    assert ClientResult.from_json(json.loads(json.dumps(absent.to_json())), None) == absent
    assert absent.figures() == {"parts": {}, "seconds": {}, "memory": 0}


def test_every_event_reaches_every_callback_in_order() -> None:
    seen: list[Any] = []

    class Listener(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def round_started(self, round_number: int, clients: Any) -> None:
            seen.append((self.name, round_number, clients))

        def closed(self) -> None:
            seen.append((self.name, "closed"))

    both = Callbacks([Listener("one"), Callback(), Listener("two")])
    both.round_started(3, ["a"])
    both.run_finished({})
    both.closed()
    assert seen == [("one", 3, ["a"]), ("two", 3, ["a"]), ("one", "closed"), ("two", "closed")]
    assert set(EVENTS) == {name for name in dir(Callback) if not name.startswith("_")}
