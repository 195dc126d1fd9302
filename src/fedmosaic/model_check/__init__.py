"""Check in seconds whether models can be trained here: ids, loss, adapters, a step, the export."""

from __future__ import annotations

from fedmosaic.model_check.check import check_models
from fedmosaic.model_check.report import CheckedItem, CheckedModel, ModelFacts
from fedmosaic.model_check.settings import CheckSettings

__all__ = ["CheckSettings", "CheckedItem", "CheckedModel", "ModelFacts", "check_models"]
