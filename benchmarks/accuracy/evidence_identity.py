"""Tell whether a stored run of the evidence was made with the settings that its row has today."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmosaic.algorithms import algorithm_class, make_algorithm
from fedmosaic.algorithms.registry import scenario_for
from fedmosaic.config import RunSettings


@dataclass(frozen=True)
class RunIdentity:
    """Hold what decides the figures of a run, but for its seed and its views.

    A new setting changes nothing, since its default is what was done before. A default that
    changes is noticed where it is likely to: among the options of the algorithm, and in the section
    ``routing`` where the run uses it.

    Attributes:
        settings: digest of all settings that are not at their defaults.
        options: options of the algorithm and settings of routing, with their defaults.
    """

    settings: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, settings: RunSettings) -> RunIdentity:
        """Return the identity of a run."""
        scenario = scenario_for(settings.algorithm, settings.scenario)
        content = scenario.model_dump(mode="json", exclude_defaults=True)
        content.get("evaluation", {}).pop("views", None)
        content.pop("title", None)
        for client in content["clients"]:  # the pretraining follows from the seed
            client["model"] = client["model"].partition("@")[0]
        content.get("data", {}).pop("validation", None)  # so does the validation split
        kind = algorithm_class(settings.algorithm)
        views = settings.scenario.evaluation.views
        options = make_algorithm(settings.algorithm, settings.scenario, 0).options
        found = options.model_dump(mode="json")
        if kind.publishes_prototypes or any(view in kind.routed_views() for view in views):
            routing = scenario.routing.model_dump(mode="json")
            found |= {f"routing.{name}": value for name, value in routing.items()}
        return cls(_digest([settings.algorithm, content]), found)

    def stands(self, stored: Mapping[str, Any]) -> bool:
        """Return whether what is stored was made with these settings; it may know fewer options."""
        return bool(stored["settings"] == self.settings) and all(
            name in self.options and self.options[name] == value
            for name, value in stored["options"].items()
        )

    @property
    def stored(self) -> dict[str, Any]:
        """Return what is stored of it."""
        return {"settings": self.settings, "options": dict(self.options)}

    @property
    def folder(self) -> str:
        """Return the end of the name of a run folder."""
        return f"{self.settings}-{_digest(self.options)[:6]}"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
