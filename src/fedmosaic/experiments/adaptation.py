"""Plan fast adaptation, and read its results: how soon clients learn a new task.

``adaptation.json`` in the run folder holds the score of every client on every task after 0,
``every``, 2 ``every``, … local steps, and the metric of every task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fedmosaic.config import RunSettings, Settings
from fedmosaic.config.load import parse
from fedmosaic.errors import CheckpointError, ConfigError, nearest

FILE = "adaptation.json"
ADAPTED, FRESH, RECEIVED = KINDS = "adapted", "fresh", "received"


class Adaptation(Settings):
    """Set what is measured."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of the tasks to learn."""

    clients: tuple[str, ...] = Field(min_length=1)
    """Names of the clients that learn them."""

    every: int = Field(default=10, ge=1)
    """Local steps between two evaluations."""

    points: int = Field(default=5, ge=1)
    """Number of evaluations after the first."""

    items: int | None = Field(default=None, ge=1)
    """Test examples a task. None: all."""


def planned(
    settings: RunSettings,
    tasks: Sequence[str] = (),
    clients: Sequence[str] = (),
    *,
    every: int = 10,
    points: int = 5,
    items: int | None = None,
) -> Adaptation:
    """Return the plan for a run: by default all clients on the scenario's unseen tasks.

    Raises:
        ConfigError: no tasks, an unknown client, or a number out of range.
    """
    scenario = settings.scenario
    chosen = list(tasks) or [spec.name for spec in scenario.unseen]
    if not chosen:
        raise ConfigError(
            f"{settings.name} has no unseen tasks; name those to adapt to, e.g. --tasks "
            "miniature/caption-0"
        )
    names = [client.name for client in scenario.clients]
    for client in clients:
        if client not in names:
            raise ConfigError(f"{settings.name} has no client {client!r}.{nearest(client, names)}")
    content = {"tasks": chosen, "clients": list(clients) or names, "items": items}
    return parse(Adaptation, {**content, "every": every, "points": points}, "adapt")


def read_adaptation(path: Path) -> dict[str, Any]:
    """Read a file that :func:`fedmosaic.experiments.adapt.adapt` wrote.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plan = Adaptation(**content["settings"])
        content.setdefault("metrics", {})  # an earlier version wrote none
        for kind in KINDS:
            for curves in content.setdefault(kind, {}).values():
                for values in curves.values():
                    _check_curve(values, plan.points + 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); remove it and measure again"
        ) from error
    return dict(content)


def complete(content: Mapping[str, Any], kind: str = ADAPTED) -> bool:
    """Return whether all clients and tasks of the plan are measured, so that means compare."""
    wanted = {
        (client, task)
        for client in content["settings"]["clients"]
        for task in content["settings"]["tasks"]
    }
    return wanted == {(client, task) for client, curves in content[kind].items() for task in curves}


def mean_curve(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[float]:
    """Return the mean over clients and tasks at every point."""
    every = [values for tasks in curves.values() for values in tasks.values()]
    return [sum(column) / len(every) for column in zip(*every, strict=True)]


def _check_curve(values: Sequence[float], count: int) -> None:
    if len(values) != count or not all(0 <= value <= 1 for value in values):
        raise ValueError("a curve has another number of points, or a value that is no score")


def begun(path: Path, plan: Adaptation) -> dict[str, Any]:
    """Return what has been measured already."""
    chosen = plan.model_dump(mode="json")
    if not path.is_file():
        return {"settings": chosen, "metrics": {}, **{kind: {} for kind in KINDS}}
    found = read_adaptation(path)
    for key, value in chosen.items():
        if found["settings"][key] != value:
            raise ConfigError(
                f"{path} was measured with {key} = {found['settings'][key]}, not {value}; use the "
                "same settings, or remove the file"
            )
    return found
