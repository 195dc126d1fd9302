"""Typed settings, the same for scenario files, ``--set`` and a run folder's ``config.yaml``."""

from __future__ import annotations

from fedmosaic.config.adapter import AdapterSettings
from fedmosaic.config.alignment import AlignmentSettings, RefineSettings
from fedmosaic.config.base import Settings
from fedmosaic.config.data import ClientSpec, DataSettings, TaskSpec
from fedmosaic.config.defences import DefenceSettings
from fedmosaic.config.deployment import DeploymentSettings
from fedmosaic.config.evaluation import EvaluationSettings
from fedmosaic.config.models import ModelSettings
from fedmosaic.config.relevance import RelevanceSettings
from fedmosaic.config.routing import RoutingSettings
from fedmosaic.config.run import DeploymentRecord, Rehearsal, RunSettings, SignatureRecord
from fedmosaic.config.scenario import Scenario
from fedmosaic.config.server import ServerSettings
from fedmosaic.config.site import ShareSettings, SiteDataSettings, SiteSettings
from fedmosaic.config.training import BudgetSettings, MemorySettings, TrainSettings

__all__ = [
    "AdapterSettings",
    "AlignmentSettings",
    "BudgetSettings",
    "ClientSpec",
    "DataSettings",
    "DefenceSettings",
    "DeploymentRecord",
    "DeploymentSettings",
    "EvaluationSettings",
    "MemorySettings",
    "ModelSettings",
    "RefineSettings",
    "Rehearsal",
    "RelevanceSettings",
    "RoutingSettings",
    "RunSettings",
    "Scenario",
    "ServerSettings",
    "Settings",
    "ShareSettings",
    "SignatureRecord",
    "SiteDataSettings",
    "SiteSettings",
    "TaskSpec",
    "TrainSettings",
]
