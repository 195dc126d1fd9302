"""Carry out a comparison: choose settings, run every algorithm with every seed, collect figures."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedmosaic.config import renamed
from fedmosaic.errors import ConfigError, Interrupted
from fedmosaic.experiments.grid import Failure, GridListener, Job, run_grid
from fedmosaic.experiments.plan import Plan, Trials
from fedmosaic.experiments.stored import RESULT
from fedmosaic.experiments.summaries import compare_summaries, measured
from fedmosaic.experiments.sweep import Sweep, without_effect
from fedmosaic.federation.beginning import versions
from fedmosaic.federation.resources import parallel_processes
from fedmosaic.files import write_atomic

PLAN = "plan.json"
SWEEP = "sweep.json"
# Image features that the runs of a comparison share; removed at its end.
FEATURES = ".features.sqlite"


@dataclass(frozen=True)
class Comparison:
    """Hold a comparison.

    Attributes:
        folder: its folder.
        result: its figures, as in ``comparison.json``.
        failures: the runs that failed.
    """

    folder: Path
    result: Mapping[str, Any]
    failures: Sequence[Failure] = field(default_factory=list)


def run_comparison(
    plan: Plan, folder: Path, *, jobs: int = 0, listener: GridListener | None = None
) -> Comparison:
    """Carry out whatever of the plan is not done in ``folder`` yet, and collect the figures.

    ::

        folder/<variant>/seed-<s>/            an ordinary run
        folder/sweep/<variant>/<candidate>/   the runs of the sweep; sweep.json has their scores
        folder/comparison.json                the figures; plan.json has what is compared

    Args:
        plan: what is compared.
        folder: the folder of the comparison.
        jobs: runs at a time, as far as memory allows. 0: one for each core with miniatures on a
            CPU, else one.
        listener: is notified of every event.

    Raises:
        ConfigError: before anything runs, for mistakes in the plan or a folder that holds
            something else.
    """
    content = plan.content()
    parallel = jobs or parallel_processes(plan.scenario)
    trials = plan.trials(folder / "sweep", parallel)
    folder.mkdir(parents=True, exist_ok=True)
    _check_folder(folder, content)
    try:
        with FileLock(folder / ".lock", timeout=0):
            _claim(folder, content)
            try:
                return _run(plan, folder, trials, parallel, listener or GridListener())
            finally:
                for file in folder.glob(f"{FEATURES}*"):
                    file.unlink()
    except Timeout:
        raise ConfigError(f"another comparison is running in {folder}") from None
    except KeyboardInterrupt as stop:
        raise Interrupted(folder, "the same command") from stop


def _run(
    plan: Plan, folder: Path, trials: Trials, parallel: int, listener: GridListener
) -> Comparison:
    choices = _choose(plan.sweep, trials, folder, parallel, listener) if plan.sweep else {}
    grid, failures = _jobs(plan, folder, parallel, choices)
    failures += run_grid("comparison", grid, parallel, listener, folder / FEATURES)
    summaries: dict[str, dict[int, Any]] = {variant.label: {} for variant in plan.variants}
    for job in grid:
        if (summary := job.summary()) is not None:
            summaries[job.label][job.seed] = summary
    result = {
        "scenario": plan.name,
        "title": plan.scenario.title,
        "settings": list(plan.changes),
        "budget": plan.scenario.budget.kind,
        "choice": plan.scenario.evaluation.method,
        "metrics": measured(summaries),
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


def _jobs(
    plan: Plan, folder: Path, parallel: int, choices: Mapping[str, Any]
) -> tuple[list[Job], list[Failure]]:
    """Return the runs of the comparison, and a failure for each run without settings.

    They are sorted by seed, so that an unfinished comparison has all variants of its first seeds.
    """
    jobs: list[Job] = []
    failures: list[Failure] = []
    for variant in plan.variants:
        chosen = choices.get(variant.label, {}).get("chosen", ())
        if chosen is None:
            reason = f"nothing was chosen: see {folder / SWEEP}"
            failures += [Failure(variant.label, seed, reason) for seed in plan.seeds]
            continue
        settings = plan.settings(variant, chosen, parallel)
        for seed in plan.seeds:
            path = folder / variant.folder / f"seed-{seed}"
            own = settings.model_copy(update={"seed": seed})
            jobs.append(Job(variant.label, seed, path, own))
    return sorted(jobs, key=lambda job: job.seed), failures


def _choose(
    sweep: Sweep, trials: Trials, folder: Path, parallel: int, listener: GridListener
) -> dict[str, Any]:
    """Return what every variant with candidates chose (see :meth:`Sweep.choose`)."""
    grid = [job for candidates in trials.values() for runs in candidates.values() for job in runs]
    failures = run_grid("sweep", grid, parallel, listener, folder / FEATURES)
    choices = {
        label: sweep.choose(candidates, failures)
        for label, candidates in trials.items()
        if candidates
    }
    for label, found in choices.items():
        if keys := without_effect(found["candidates"]):
            warnings.warn(
                f"{label}: every value of {' and of '.join(keys)} gave the same figures, so "
                f"{label} may not use it; the first was taken",
                stacklevel=2,
            )
    record = {"by": sweep.by, "seeds": list(sweep.seeds), "choices": choices}
    write_atomic(folder / SWEEP, json.dumps(record, indent=1) + "\n")
    return choices


def _check_folder(folder: Path, content: Mapping[str, Any]) -> None:
    """Raise ConfigError if the folder holds something else, or other settings of the same names."""
    path = folder / PLAN
    if not path.is_file():
        if others := [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]:
            raise ConfigError(
                f"{folder} already holds {others[0]!r} and no comparison; choose another --out"
            )
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    _require_current(folder, known["variants"])
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


def _require_current(folder: Path, variants: Mapping[str, Any]) -> None:
    """Raise ConfigError if an earlier version of fedmosaic made the comparison."""
    for variant in variants.values():
        if former := renamed.former_settings(variant["scenario"]):
            raise ConfigError(
                f"{folder} holds a comparison of an earlier version of fedmosaic: in its {PLAN} "
                f"{former[0]}. This version can show and report it, but cannot "
                "continue it; choose another --out"
            )


def _claim(folder: Path, content: Mapping[str, Any]) -> None:
    """Add the comparison to what the folder is for."""
    path = folder / PLAN
    known = json.loads(path.read_text(encoding="utf-8"))["variants"] if path.is_file() else {}
    merged = {**content, "variants": {**known, **content["variants"]}}
    write_atomic(path, json.dumps(merged, indent=1) + "\n")


def _difference(one: Any, other: Any, place: str = "") -> str:
    """Describe the first place where two JSON values differ; empty if they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            if found := _difference(
                one.get(key), other.get(key), f"{place}.{key}" if place else str(key)
            ):
                return found
        return ""
    return "" if one == other else f"{place} is {json.dumps(one)} there, {json.dumps(other)} here"
