"""Test how clients are divided among worker processes."""

from __future__ import annotations

from pathlib import Path

from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.federation.grouping import divide
from fedmosaic.federation.runtime import Runtime


def divided(scenario: str | Path, count: int, *overrides: str) -> list[list[str]]:
    runtime = Runtime(RunSettings(name="x", scenario=load_scenario(scenario, list(overrides))))
    return divide(runtime, [client.name for client in runtime.scenario.clients], count)


def test_clients_of_one_architecture_share_a_worker_where_they_can() -> None:
    assert divided("miniature/hetero", 2) == [
        [f"client-{number}" for number in (1, 3, 4, 6, 9)],  # all with the largest model
        [f"client-{number}" for number in (0, 2, 5, 7, 8)],  # all with Qwen 2
    ]
    parts = divided("miniature/hetero", 4)
    assert sorted(name for part in parts for name in part) == sorted(
        f"client-{number}" for number in range(10)
    )
    assert all(part for part in parts)


def test_work_is_even_before_architectures_are_together() -> None:
    assert divided("miniature/quickstart", 2) == [
        ["client-2", "client-3"],
        ["client-0", "client-1"],
    ]


def test_a_large_population_is_dealt_out_in_turn() -> None:
    assert divided("miniature/quickstart", 2, "clients_in_memory=3") == [
        ["client-0", "client-2"],
        ["client-1", "client-3"],
    ]
