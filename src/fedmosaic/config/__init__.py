"""One typed configuration: a scenario file, ``--set`` on the command line and a run folder's ``config.yaml`` share it."""

from __future__ import annotations

from fedmosaic.config.run import Rehearsal, RunSettings
from fedmosaic.config.scenario import (
    AdapterSettings,
    AlignmentSettings,
    BudgetSettings,
    ClientSpec,
    DataSettings,
    EvaluationSettings,
    MemorySettings,
    ModelSettings,
    RefineSettings,
    RelevanceSettings,
    Scenario,
    Settings,
    TaskSpec,
    TrainSettings,
)

__all__ = [
    "AdapterSettings",
    "AlignmentSettings",
    "BudgetSettings",
    "ClientSpec",
    "DataSettings",
    "EvaluationSettings",
    "MemorySettings",
    "ModelSettings",
    "RefineSettings",
    "Rehearsal",
    "RelevanceSettings",
    "RunSettings",
    "Scenario",
    "Settings",
    "TaskSpec",
    "TrainSettings",
]
