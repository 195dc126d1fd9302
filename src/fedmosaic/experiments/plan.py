"""Describe a comparison: the scenario, the variants, the seeds and what is chosen beforehand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmosaic.algorithms import make_algorithm
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import override
from fedmosaic.errors import ConfigError
from fedmosaic.experiments.grid import Job
from fedmosaic.experiments.sweep import Sweep
from fedmosaic.experiments.variants import Variant, distinct
from fedmosaic.federation.resources import only_miniatures

# The runs of a sweep, by label and candidate.
Trials = Mapping[str, Mapping[tuple[str, ...], Sequence[Job]]]


@dataclass(frozen=True)
class Plan:
    """Describe what is compared.

    Attributes:
        name: name of the scenario.
        scenario: the scenario with the settings that all runs share.
        variants: the lines of the comparison.
        seeds: seeds of the runs.
        changes: the settings that all runs share, for the record.
        sweep: what each variant chooses on a validation split; None for nothing.

    Raises:
        ConfigError: no seeds, two variants of one name, a seed that is also the sweep's, or a
            client without a model or tasks.
    """

    name: str
    scenario: Scenario
    variants: Sequence[Variant]
    seeds: Sequence[int]
    changes: Sequence[str] = ()
    sweep: Sweep | None = None

    def __post_init__(self) -> None:
        distinct(self.variants)
        self.scenario.require_models_and_tasks(self.name)
        if not self.seeds:
            raise ConfigError("a comparison needs at least one seed")
        if self.sweep and (shared := sorted(set(self.seeds) & set(self.sweep.seeds))):
            raise ConfigError(
                f"seed {shared[0]} is used both for choosing and for comparing; use other seeds "
                "for one of them"
            )

    def settings(
        self, variant: Variant, chosen: Sequence[str] = (), parallel: int = 1
    ) -> RunSettings:
        """Return the settings of a variant's runs except their seed.

        Args:
            variant: the variant.
            chosen: settings that a sweep chose for it.
            parallel: runs at a time, which share the cores.

        Raises:
            ConfigError: an unknown setting or option.
        """
        scenario = override(self.scenario, [*variant.settings, *chosen], variant.label)
        make_algorithm(variant.algorithm, scenario, 0)
        cores = os.cpu_count() or 1
        threads = (
            1 if only_miniatures(scenario) else max(1, cores // parallel) if parallel > 1 else 0
        )
        return RunSettings(
            name=self.name,
            algorithm=variant.algorithm,
            threads=threads,
            workers=1,
            trackers=(),
            scenario=scenario,
        )

    def trials(self, folder: Path, parallel: int) -> Trials:
        """Return the runs of the sweep below ``folder``; none without a sweep.

        Raises:
            ConfigError: a value that a setting cannot have.
        """
        if self.sweep is None:
            return {}
        return {
            v.label: self.sweep.jobs(folder, v, self.settings(v, parallel=parallel))
            for v in self.variants
        }

    def content(self) -> dict[str, Any]:
        """Return everything that decides the numbers, to recognise the same comparison."""
        return {
            "scenario": self.name,
            "sweep": json.loads(json.dumps(asdict(self.sweep))) if self.sweep else None,
            "variants": {
                variant.label: {
                    "algorithm": variant.algorithm,
                    "scenario": self.settings(variant).scenario.model_dump(mode="json"),
                }
                for variant in self.variants
            },
        }
