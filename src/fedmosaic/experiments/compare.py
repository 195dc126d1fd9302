"""A comparison from beginning to end: settings chosen, every algorithm run with every seed, the figures put together."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedmosaic.algorithms import make_algorithm
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import override
from fedmosaic.errors import ConfigError, Interrupted
from fedmosaic.experiments.grid import Failure, GridListener, Job, run_grid
from fedmosaic.experiments.summaries import compare_summaries
from fedmosaic.experiments.sweep import Sweep
from fedmosaic.experiments.variants import Variant, distinct
from fedmosaic.federation.run import versions
from fedmosaic.federation.runtime import only_miniatures
from fedmosaic.files import write_atomic
from fedmosaic.models.loading import resolve_device

PLAN = "plan.json"
RESULT = "comparison.json"
SWEEP = "sweep.json"
# What the runs of a comparison need not compute twice; goes with its end.
FEATURES = ".features.sqlite"


# The runs that choose, by label and candidate.
Tries = Mapping[str, Mapping[tuple[str, ...], Sequence[Job]]]


@dataclass(frozen=True)
class Plan:
    """What is compared on what.

    Attributes:
        name: of the scenario. scenario: with the settings that are common to all. changes: those settings, for the record.
    """

    name: str
    scenario: Scenario
    variants: Sequence[Variant]
    seeds: Sequence[int]
    changes: Sequence[str] = ()
    sweep: Sweep | None = None

    def __post_init__(self) -> None:
        distinct(self.variants)
        if not self.seeds:
            raise ConfigError("a comparison needs at least one seed")
        if self.sweep and (shared := sorted(set(self.seeds) & set(self.sweep.seeds))):
            raise ConfigError(
                f"seed {shared[0]} is used both for choosing and for comparing; use others for one of them"
            )

    def settings(
        self, variant: Variant, chosen: Sequence[str] = (), parallel: int = 1
    ) -> RunSettings:
        """The settings of a variant's runs, but for their seed. Raises ConfigError for unknown settings and options."""
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

    def tries(self, folder: Path, parallel: int) -> Tries:
        """The runs of the sweep, if there is one, below ``folder``. Raises ConfigError for values that cannot be."""
        if self.sweep is None:
            return {}
        return {
            v.label: self.sweep.jobs(folder, v, self.settings(v, parallel=parallel))
            for v in self.variants
        }

    def content(self) -> dict[str, Any]:
        """Everything that decides the numbers of every variant, for telling whether a folder holds the same comparison."""
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


@dataclass(frozen=True)
class Comparison:
    """A comparison: its folder, its figures (what ``comparison.json`` holds) and the runs that failed."""

    folder: Path
    result: Mapping[str, Any]
    failures: Sequence[Failure] = field(default_factory=list)


def run_comparison(
    plan: Plan, folder: Path, *, jobs: int = 0, listener: GridListener | None = None
) -> Comparison:
    """Do whatever of the plan is not done in ``folder`` yet, and put the figures together.

    ::

        folder/<variant>/seed-<s>/            an ordinary run
        folder/sweep/<variant>/<candidate>/   the runs of the sweep, with sweep.json for what they scored
        folder/comparison.json                the figures; plan.json says what the folder is for

    Args:
        jobs: runs at a time; 0: one for each core with miniatures on a CPU, else one. Never more than memory allows.

    Raises:
        ConfigError: before anything runs, for mistakes in the plan or a folder that holds something else.
    """
    content = plan.content()
    parallel = jobs or parallel_runs(plan.scenario)
    tries = plan.tries(folder / "sweep", parallel)
    folder.mkdir(parents=True, exist_ok=True)
    _check_folder(folder, content)
    try:
        with FileLock(folder / ".lock", timeout=0):
            _claim(folder, content)
            try:
                return _run(plan, folder, tries, parallel, listener or GridListener())
            finally:
                for file in folder.glob(f"{FEATURES}*"):
                    file.unlink()
    except Timeout:
        raise ConfigError(f"another comparison is running in {folder}") from None
    except KeyboardInterrupt as stop:
        raise Interrupted(folder, "the same command") from stop


def parallel_runs(scenario: Scenario) -> int:
    """How many runs at a time: one for each core with miniatures on a CPU; one with real models, whose memory and device are shared."""
    on_cpu = resolve_device(scenario.models.device).type == "cpu"
    return (os.cpu_count() or 1) if only_miniatures(scenario) and on_cpu else 1


def _run(
    plan: Plan, folder: Path, tries: Tries, parallel: int, listener: GridListener
) -> Comparison:
    choices = _choose(plan.sweep, tries, folder, parallel, listener) if plan.sweep else {}
    failures: list[Failure] = []
    grid: list[Job] = []
    for variant in plan.variants:
        chosen = choices.get(variant.label, {}).get("chosen", ())
        if chosen is None:
            reason = f"nothing was chosen: see {folder / SWEEP}"
            failures += [Failure(variant.label, seed, reason) for seed in plan.seeds]
            continue
        settings = plan.settings(variant, chosen, parallel)
        grid += [
            Job(
                variant.label,
                seed,
                folder / variant.folder / f"seed-{seed}",
                settings.model_copy(update={"seed": seed}),
            )
            for seed in plan.seeds
        ]
    # Seed by seed, so that what there is at any time can be compared.
    grid.sort(key=lambda job: job.seed)
    failures += run_grid("comparison", grid, parallel, listener, folder / FEATURES)
    summaries: dict[str, dict[int, Any]] = {variant.label: {} for variant in plan.variants}
    for job in grid:
        if (summary := job.summary()) is not None:
            summaries[job.label][job.seed] = summary
    evaluation = plan.scenario.evaluation
    result = {
        "scenario": plan.name,
        "title": plan.scenario.title,
        "settings": list(plan.changes),
        "budget": plan.scenario.budget.kind,
        "choice": evaluation.method,
        "seeds": list(plan.seeds),
        "variants": {
            variant.label: [variant.algorithm, *variant.settings] for variant in plan.variants
        },
        "chosen": {label: found["chosen"] for label, found in choices.items()},
        "algorithms": compare_summaries(summaries),
        "failed": [asdict(failure) for failure in failures],
        "versions": versions(),
    }
    write_atomic(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return Comparison(folder, result, failures)


def _choose(
    sweep: Sweep, tries: Tries, folder: Path, parallel: int, listener: GridListener
) -> dict[str, Any]:
    """What every variant that had a choice chose (see :meth:`Sweep.choose`)."""
    grid = [job for candidates in tries.values() for runs in candidates.values() for job in runs]
    failures = run_grid("sweep", grid, parallel, listener, folder / FEATURES)
    choices = {
        label: sweep.choose(candidates, failures)
        for label, candidates in tries.items()
        if candidates
    }
    record = {"by": sweep.by, "seeds": list(sweep.seeds), "choices": choices}
    write_atomic(folder / SWEEP, json.dumps(record, indent=1) + "\n")
    return choices


def _check_folder(folder: Path, content: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something else, or runs of the same names with other settings."""
    path = folder / PLAN
    if not path.is_file():
        if others := [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]:
            raise ConfigError(
                f"{folder} already holds {others[0]!r} and no comparison; choose another --out"
            )
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    common = {
        label: content["variants"][label]
        for label in known["variants"]
        if label in content["variants"]
    }
    before = {**known, "variants": {label: known["variants"][label] for label in common}}
    if difference := _difference(before, {**content, "variants": common}):
        raise ConfigError(
            f"{folder} holds a comparison with other settings: {difference}; choose another --out"
        )


def _claim(folder: Path, content: Mapping[str, Any]) -> None:
    """Write down what the folder is for, beside what it was for already."""
    path = folder / PLAN
    known = json.loads(path.read_text(encoding="utf-8"))["variants"] if path.is_file() else {}
    merged = {**content, "variants": {**known, **content["variants"]}}
    write_atomic(path, json.dumps(merged, indent=1) + "\n")


def _difference(one: Any, other: Any, place: str = "") -> str:
    """The first place where two JSON values differ, in words; empty if they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            if found := _difference(
                one.get(key), other.get(key), f"{place}.{key}" if place else str(key)
            ):
                return found
        return ""
    return "" if one == other else f"{place} is {json.dumps(one)} there, {json.dumps(other)} here"
