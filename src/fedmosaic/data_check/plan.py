"""Find out which tasks a check is about, and for which models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedmosaic.config import DataSettings, Scenario, TaskSpec
from fedmosaic.config.load import is_scenario, load_scenario


@dataclass
class PlannedTask:
    """Name a task to check, and the models that must take its items.

    Attributes:
        spec: the task; the name of a public set for public data.
        trainers: models that train on its training items.
        testers: models that are measured on its test items.
        public: it is public data.
    """

    spec: TaskSpec
    trainers: list[str] = field(default_factory=list)
    testers: list[str] = field(default_factory=list)
    public: bool = False

    @property
    def models(self) -> list[str]:
        """Return all models that must take some of its items."""
        return list(dict.fromkeys([*self.trainers, *self.testers]))


@dataclass(frozen=True)
class CheckPlan:
    """Hold what is to be checked.

    Attributes:
        source: what the user named.
        tasks: the tasks.
        data: where their data is.
        asked: models that the user named; others are only checked if they are on this machine.
        settings: the scenario; None where there is none.
    """

    source: str
    tasks: Sequence[PlannedTask]
    data: DataSettings
    asked: Sequence[str] = ()
    settings: Scenario | None = None


def plan_checks(source: str, root: Path | None, models: Sequence[str]) -> CheckPlan:
    """Return what is to be checked.

    Args:
        source: a scenario, its name or file; a data file or folder; or the name of a task.
        root: folder that paths start from; None: the scenario's ``data.root``, or the working
            folder.
        models: models to check the items for; empty: a scenario's clients'.

    Raises:
        ConfigError: the scenario is wrong, or names no models and tasks.
    """
    if not is_scenario(source):
        task = PlannedTask(TaskSpec(name=source), list(models), list(models))
        return CheckPlan(source, [task], DataSettings(root=root), models)
    scenario = load_scenario(source, [] if root is None else [f"data.root={root.absolute()}"])
    scenario.require_models_and_tasks(source)
    tasks: dict[str, PlannedTask] = {}
    for client in scenario.clients:
        for spec in client.tasks:
            planned = tasks.setdefault(spec.name, PlannedTask(spec))
            planned.trainers += models or [client.model]
            planned.testers += models or [client.model]
    for spec in scenario.unseen:
        tasks.setdefault(spec.name, PlannedTask(spec))
    used = list(models) or scenario.models_used
    if scenario.evaluation.others:
        for planned in tasks.values():
            planned.testers += used
    found = [*tasks.values()]
    if scenario.data.public != "none":
        spec = TaskSpec(name=scenario.data.public)
        found.append(PlannedTask(spec, list(used), public=True))
    return CheckPlan(source, found, scenario.data, models, scenario)
