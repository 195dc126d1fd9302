"""Compute the features of prompts that decide which of a client's models answers an input."""

from __future__ import annotations

from fedmosaic.federation.runtime import Runtime
from fedmosaic.relevance.prompt_features import PromptFeatures


def prompt_features(runtime: Runtime) -> PromptFeatures:
    """Return what computes features with the shared model, once a process."""

    def make() -> PromptFeatures:
        with runtime.naming("relevance.model"):
            backbone = runtime.backbone(runtime.scenario.relevance.model)
            settings = runtime.scenario.routing
            return PromptFeatures(backbone, settings.features, settings.depth)

    found: PromptFeatures = runtime.cached("prompt features", make)
    return found
