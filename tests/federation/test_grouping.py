"""Test how clients are divided among worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import DataError
from fedmosaic.federation.grouping import divide
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone


def divided(scenario: str | Path, count: int, *overrides: str) -> list[list[str]]:
    runtime = Runtime(RunSettings(name="x", scenario=load_scenario(scenario, list(overrides))))
    return divide(runtime, [client.name for client in runtime.scenario.clients], count)


def test_clients_of_one_architecture_share_a_worker_where_they_can() -> None:
    assert divided("miniature/hetero", 2) == [
        [f"client-{number}" for number in (3, 4, 6, 8, 9)],  # all with the largest model
        [f"client-{number}" for number in (0, 1, 2, 5, 7)],  # all with Qwen 2
    ]
    parts = divided("miniature/hetero", 4)
    assert sorted(name for part in parts for name in part) == sorted(
        f"client-{number}" for number in range(10)
    )
    assert all(part for part in parts)


def test_work_is_even_before_architectures_are_together() -> None:
    assert divided("miniature/quickstart", 2) == [
        ["client-0", "client-2"],  # the largest model, and the shortest texts
        ["client-1", "client-3"],
    ]


def test_examples_that_a_model_cannot_take_do_not_stop_the_division(monkeypatch: Any) -> None:
    def refuse(*_: Any) -> None:
        raise DataError("too long")

    monkeypatch.setattr(Backbone, "encode", refuse)
    parts = divided("miniature/quickstart", 2)
    assert sorted(name for part in parts for name in part) == [f"client-{k}" for k in range(4)]


def test_a_large_population_is_dealt_out_in_turn() -> None:
    assert divided("miniature/quickstart", 2, "clients_in_memory=3") == [
        ["client-0", "client-2"],
        ["client-1", "client-3"],
    ]
