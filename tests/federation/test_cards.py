"""Test how worker processes are spread over several cards, which are pretended."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fedmosaic.config import ModelSettings, RunSettings, Scenario
from fedmosaic.federation import grouping, workers
from fedmosaic.federation.resources import cards, choose_workers
from fedmosaic.federation.runtime import Runtime
from tiny_scenario import TINY


def settings(**models: Any) -> RunSettings:
    scenario = Scenario.model_validate({**TINY, "models": models})
    return RunSettings(name="cards", algorithm="fedavg", scenario=scenario)


@pytest.fixture(autouse=True)
def _three_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_each_card_gets_a_worker() -> None:
    assert choose_workers(settings()) == choose_workers(settings(device="cuda")) == 3
    assert choose_workers(settings().model_copy(update={"workers": 2})) == 2


@pytest.mark.parametrize(
    "models", [{"device": "cuda:1"}, {"device": "cpu"}, {"device_map": "auto"}]
)
def test_settings_that_name_the_device_keep_it(models: dict[str, Any]) -> None:
    assert cards(ModelSettings(**models)) == []


def test_only_visible_cards_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-7,2")
    assert cards(ModelSettings()) == ["5", "GPU-7", "2"]


def test_worker_k_sees_one_card(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def start(module: str, server: Any, *, environment: dict[str, str]) -> None:
        assert server is None  # a fork cannot use CUDA
        seen.append(environment["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr(workers, "start_process", start)
    monkeypatch.setattr(workers._Worker, "send", lambda *_: None)
    monkeypatch.setattr(workers._Worker, "_read", lambda *_: None)
    monkeypatch.setattr(grouping, "work_of", lambda *_: 1.0)
    workers.Workers(Runtime(settings(device="cuda")), 4)
    assert seen == ["0", "1", "2", "0"]
