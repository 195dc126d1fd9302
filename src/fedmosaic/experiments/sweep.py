"""Choose settings on a validation split.

Every candidate is run with its own seeds and evaluated on held-out training examples. The
comparison's test examples and seeds play no part in the choice (see
:mod:`fedmosaic.data.validation`). Each algorithm gets its own choice among the same candidates, and
all scores are recorded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedmosaic.config import RunSettings
from fedmosaic.config.load import override
from fedmosaic.errors import ConfigError
from fedmosaic.experiments.grid import Failure, Job
from fedmosaic.experiments.variants import Variant, slug

By = Literal["mean", "self", "others"]
SEEDS = (1000, 1001)


@dataclass(frozen=True)
class Sweep:
    """Set what to choose from, and how.

    Attributes:
        choices: values to try, by the setting's dotted key; all combinations are candidates. A key
            of one algorithm (``algorithms.<name>.…``) concerns that algorithm alone.
        by: the score: Self, Others or their mean after the last round, averaged over ``seeds``.
            The first of equals is chosen.
        seeds: seeds of the candidates' runs. Each also draws its own validation split.
    """

    choices: Mapping[str, Sequence[str]]
    by: By = "mean"
    seeds: tuple[int, ...] = SEEDS

    def candidates(self, variant: Variant) -> list[tuple[str, ...]]:
        """Return a variant's candidates as ``key=value`` settings; none if no key concerns it.

        Raises:
            ConfigError: the variant itself sets a key that is to be chosen.
        """
        own = {setting.partition("=")[0] for setting in variant.settings}
        keys = [
            key
            for key in self.choices
            if not key.startswith("algorithms.") or key.split(".")[1] == variant.algorithm
        ]
        if twice := sorted(own & set(keys)):
            raise ConfigError(
                f"{variant.label} sets {twice[0]} itself, and --sweep is to choose it; leave one "
                "of them out"
            )
        combinations = itertools.product(
            *([f"{key}={value}" for value in self.choices[key]] for key in keys)
        )
        return list(combinations) if keys else []

    def jobs(
        self, folder: Path, variant: Variant, settings: RunSettings
    ) -> dict[tuple[str, ...], list[Job]]:
        """Return the runs of every candidate of a variant.

        Args:
            folder: the folder that their run folders go into.
            variant: the variant.
            settings: its settings without a candidate's.
        """
        found: dict[tuple[str, ...], list[Job]] = {}
        for candidate in self.candidates(variant):
            scenario = override(
                settings.scenario,
                [*candidate, "evaluation.every=0", "unseen=[]"],
                f"--sweep {candidate[0]}",
            )
            place = folder / variant.folder / slug(" ".join(candidate))
            label = f"{variant.label}, {', '.join(candidate)}"
            found[candidate] = []
            for seed in self.seeds:
                data = scenario.data.model_copy(update={"validation": seed})
                split = scenario.model_copy(update={"data": data})
                own = settings.model_copy(update={"scenario": split, "seed": seed})
                found[candidate].append(Job(label, seed, place / f"seed-{seed}", own))
        return found

    def choose(
        self, jobs: Mapping[tuple[str, ...], Sequence[Job]], failures: Sequence[Failure]
    ) -> dict[str, Any]:
        """Score every candidate and choose the best; a candidate with a failed run is out.

        Args:
            jobs: the runs of every candidate.
            failures: the runs that failed.

        Returns:
            The record ``{"candidates": [...], "chosen": settings}``. A candidate has ``settings``
            with ``self``, ``others`` and ``score`` in percent, or ``settings`` with ``failed``.
            ``chosen`` is None if every candidate failed, or if a run was lost, since its candidate
            might be the best.
        """
        reasons = {(failure.label, failure.seed): failure.reason for failure in failures}
        entries: list[dict[str, Any]] = []
        for settings, runs in jobs.items():
            failed = [
                reasons[job.label, job.seed] for job in runs if (job.label, job.seed) in reasons
            ]
            entry: dict[str, Any] = {"settings": list(settings)}
            entries.append(
                entry
                | (
                    {"failed": failed[0]}
                    if failed
                    else self._score([job.summary() or {} for job in runs])
                )
            )
        lost = {(failure.label, failure.seed) for failure in failures if failure.lost}
        whole = not any((job.label, job.seed) in lost for runs in jobs.values() for job in runs)
        scored = [entry for entry in entries if "score" in entry and whole]
        best = max(scored, key=lambda entry: float(entry["score"]), default=None)
        return {"candidates": entries, "chosen": best["settings"] if best else None}

    def _score(self, summaries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        means: dict[str, float] = {}
        for part in ("self", "others"):
            values = [summary[part]["last"] for summary in summaries]
            if None not in values:
                means[part] = round(100 * math.fsum(values) / len(values), 3)
        if self.by == "mean":
            return {**means, "score": round(math.fsum(means.values()) / len(means), 3)}
        if self.by not in means:
            raise ConfigError(
                f"the sweep is to choose by {self.by}, which the scenario does not measure "
                "(evaluation.others)"
            )
        return {**means, "score": means[self.by]}


def without_effect(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that changed no figure: candidates that differ in one alone came out equal.

    Args:
        candidates: as :meth:`Sweep.choose` returns them; those that failed do not count.
    """
    figures = {
        tuple(entry["settings"]): (entry.get("self"), entry.get("others"))
        for entry in candidates
        if "score" in entry
    }
    found = []
    for place in range(max(map(len, figures), default=0)):
        alike: dict[tuple[str, ...], list[Any]] = {}
        for settings, values in figures.items():
            alike.setdefault(settings[:place] + settings[place + 1 :], []).append(values)
        groups = [group for group in alike.values() if len(group) > 1]
        if groups and all(len(set(group)) == 1 for group in groups):
            found.append(next(iter(figures))[place].partition("=")[0])
    return found
