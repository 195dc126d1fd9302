"""Select from PEFT's test modules the tests that have our config among their parameters."""

from __future__ import annotations

import pytest

from fedmosaic.adapters import CoLoraConfig


def _runs_on_ours(item: pytest.Item) -> bool:
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(isinstance(value, type) and issubclass(value, CoLoraConfig) for value in values)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if _runs_on_ours(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in ours])
    items[:] = ours
    if not ours:
        raise pytest.UsageError("No test runs on Co-LoRA: PEFT's lists of cases were not replaced.")
