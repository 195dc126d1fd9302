"""Prepare the scenario that a call names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario, override


def with_overrides(
    scenario: str | Path | Scenario, overrides: Sequence[str]
) -> tuple[str, Scenario]:
    """Return a scenario's name, and the scenario with the overrides applied."""
    if isinstance(scenario, Scenario):
        name = scenario.title or "scenario"
        return name, override(scenario, overrides, name) if overrides else scenario
    return str(scenario), load_scenario(scenario, overrides)


def stem(name: str) -> str:
    """Return a scenario's name as part of a folder's name."""
    return Path(name).with_suffix("").as_posix().strip("/.").replace("/", "-").replace(" ", "-")
