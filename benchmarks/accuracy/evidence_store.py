"""Compare what is stored of a part of the evidence with what the part should have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.accuracy.evidence_file import FOLDER, EvidenceFile
from benchmarks.accuracy.evidence_identity import RunIdentity
from benchmarks.accuracy.evidence_parts import (
    ALL_SEEDS,
    CHOOSING_SEEDS,
    PARTS,
    RATES,
    scenario,
)
from benchmarks.accuracy.evidence_rows import EvidenceRow, rows_of_part
from fedmosaic.config import RunSettings
from fedmosaic.experiments.grid import Job
from fedmosaic.experiments.plan import Plan
from fedmosaic.experiments.sweep import Sweep
from fedmosaic.experiments.variants import Variant, slug

Trials = dict[Job, tuple[str, str]]  # the row that chooses and the candidate of each run


@dataclass(frozen=True)
class PartStore:
    """Find the stored runs of a part that stand, and the runs that are missing.

    A stored run stands if it was made with the row's present settings and has all its views.

    Attributes:
        part: name of the part.
        folder: folder of the stored files.
    """

    part: str
    folder: Path = FOLDER

    @property
    def file(self) -> EvidenceFile:
        """Return the file of the part's runs."""
        return EvidenceFile(self.part, self.folder)

    @property
    def rates_file(self) -> EvidenceFile:
        """Return the file of the trials that choose the part's learning rates."""
        return EvidenceFile(PARTS[self.part].rates_of or self.part, self.folder)

    # --- learning rates -----------------------------------------------------------------------
    def chooser(self, row: EvidenceRow) -> EvidenceRow:
        """Return the row that chooses the learning rate of a row: mostly itself.

        Raises:
            ValueError: the part of the choice has no such row.
        """
        label = row.rate_of or row.label
        for other in rows_of_part(self.rates_file.part):
            if other.label == label:
                return other
        raise ValueError(
            f"{row.label!r} takes the learning rate of {label!r}, which the "
            f"{self.rates_file.part} part does not have: name another row in rate_of"
        )

    def trials(self, row: EvidenceRow, runs: Path = Path()) -> dict[str, list[Job]]:
        """Return the runs of all learning rates that a row could try, by candidate."""
        every = _trials(self.rates_file.part, row.variant)
        return {
            candidate: [replace(job, folder=runs / job.folder) for job in jobs]
            for candidate, (jobs, _) in every.items()
        }

    def scores(self, row: EvidenceRow) -> dict[str, float | None]:
        """Return the score of each candidate that was tried; None where a run failed.

        The score is the mean of Self and Others on the validation split, over the choosing seeds.
        """
        found: dict[str, float | None] = {}
        for candidate, seeds in self._stored_trials(row).items():
            runs = [seeds[str(seed)] for seed in CHOOSING_SEEDS if str(seed) in seeds]
            if len(runs) == len(CHOOSING_SEEDS):
                failed = any("failed" in run for run in runs)
                values = [] if failed else [(run["self"] + run["others"]) / 2 for run in runs]
                found[candidate] = fmean(values) if values else None
        return found

    def _stored_trials(self, row: EvidenceRow) -> dict[str, dict[str, Any]]:
        """Return what is stored of a row's trials with its present settings."""
        chooser = self.chooser(row)
        stored = self.rates_file.read()["rates"].get(chooser.label, {})
        every = _trials(self.rates_file.part, chooser.variant)
        return {
            candidate: stored[candidate]["seeds"]
            for candidate, (_, identity) in every.items()
            if candidate in stored and identity.stands(stored[candidate])
        }

    @property
    def _middle(self) -> str:
        """Return the candidate that a row tries with both its neighbours."""
        return f"train.lr={PARTS[self.rates_file.part].middle_rate}"

    def missing_trials(self, row: EvidenceRow, runs: Path = Path()) -> Trials:
        """Return the runs that are missing for the choice of a row's learning rate."""
        if self._chosen_before(row):
            return {}
        chooser, stored = self.chooser(row), self._stored_trials(row)
        every = self.trials(chooser, runs)
        return {
            job: (chooser.label, candidate)
            for candidate in wanted_rates(list(every), self.scores(row), self._middle)
            for job in every[candidate]
            if str(job.seed) not in stored.get(candidate, {})
        }

    def chosen(self, row: EvidenceRow) -> tuple[str, ...] | None:
        """Return the settings that a row chose: those of the best score, the first of equals.

        What was chosen in an earlier comparison stays. None while a run is missing, and where every
        candidate failed.
        """
        if before := self._chosen_before(row):
            return (before,)
        if self.missing_trials(row):
            return None
        best = best_candidate(self.scores(row))
        return (best,) if best else None

    def _chosen_before(self, row: EvidenceRow) -> str | None:
        """Return the settings that a row chose in an earlier comparison; None if it was not in."""
        found: str | None = self.rates_file.read()["chosen"].get(self.chooser(row).label)
        return found

    # --- runs ---------------------------------------------------------------------------------
    def settings(self, row: EvidenceRow, seed: int, chosen: Sequence[str]) -> RunSettings:
        """Return the settings of a run."""
        pretraining = PARTS[self.part].pretraining_of(seed)
        found = _settings(self.part, row.variant, pretraining, tuple(chosen))
        measured = found.scenario.evaluation.model_copy(update={"views": row.views()})
        own = found.scenario.model_copy(update={"evaluation": measured})
        return found.model_copy(update={"scenario": own, "seed": seed, "threads": 1})

    def standing(self, row: EvidenceRow, seed: int) -> Mapping[str, Any] | None:
        """Return the stored run of a row and seed; None if none stands.

        A part that shares runs with another (``same_steps``) takes them from there where both give
        the row the same steps.
        """
        chosen = self.chosen(row)
        if chosen is None:
            return None
        other = PARTS[self.part].same_steps
        if other and row in rows_of_part(other):
            shared = PartStore(other, self.folder).standing(row, seed)
            if shared and shared.get("steps") == scenario(self.part, 0).train.steps:
                return shared
        run = self.file.read()["runs"].get(row.label, {}).get(str(seed))
        if run is None or not RunIdentity.of(self.settings(row, seed, chosen)).stands(run):
            return None
        complete = "failed" in run or set(row.views()) <= run["views"].keys()
        return dict(run) if complete else None

    def missing_runs(
        self, row: EvidenceRow, seeds: Sequence[int], runs: Path, *, replace: bool = False
    ) -> list[Job]:
        """Return the runs that a row lacks; none while its learning rate is not chosen.

        Args:
            row: the row.
            seeds: the seeds that are wanted.
            runs: folder of the run folders.
            replace: whether runs that stand are run as well.
        """
        chosen = self.chosen(row)
        if chosen is None:
            return []
        jobs: list[Job] = []
        for seed in seeds:
            if replace or self.standing(row, seed) is None:
                settings = self.settings(row, seed, chosen)
                # Of each pretraining, the runs of a row share what they count before the start.
                name = f"{slug(row.label)}-{RunIdentity.of(settings).folder}"
                pretrained = f"{self.part}-{PARTS[self.part].pretraining_of(seed)}"
                folder = runs / pretrained / name / f"seed-{seed}"
                jobs.append(Job(row.label, seed, folder, settings))
        return jobs


def best_candidate(scores: Mapping[str, float | None]) -> str | None:
    """Return the candidate with the best score, the first of equals; None where all failed."""
    scored = {name: value for name, value in scores.items() if value is not None}
    return max(scored, key=scored.__getitem__) if scored else None


def wanted_rates(
    every: Sequence[str], scores: Mapping[str, float | None], middle: str
) -> Sequence[str]:
    """Return the candidates that a row should try, given the scores of those that it has tried.

    Args:
        every: all candidates, from the lowest rate to the highest.
        scores: scores of some of them; None where a run failed.
        middle: the candidate that is tried with both its neighbours in any case.
    """
    first = every.index(middle) - 1
    end = first + 3
    while all(candidate in scores for candidate in every[first:end]):
        tried = {candidate: scores[candidate] for candidate in every[first:end]}
        best = best_candidate(tried)
        if best == every[first] and first > 0:
            first -= 1
        elif best == every[end - 1] and end < len(every):
            end += 1
        else:
            break
    return every[first:end]


@cache
def _trials(part: str, variant: Variant) -> dict[str, tuple[list[Job], RunIdentity]]:
    """Return the trials of a variant and the identity of their settings, by candidate."""
    settings = _settings(part, variant, 0)
    sweep = Sweep({"train.lr": RATES}, seeds=CHOOSING_SEEDS)
    folder = Path(f"{part}-rates") / RunIdentity.of(settings).folder
    return {
        " ".join(candidate): (jobs, RunIdentity.of(jobs[0].settings))
        for candidate, jobs in sweep.jobs(folder, variant, settings).items()
    }


@cache
def _settings(
    part: str, variant: Variant, pretraining: int, chosen: tuple[str, ...] = ()
) -> RunSettings:
    """Return the settings of a variant's runs except their seed and views."""
    plan = Plan(PARTS[part].scenario, scenario(part, pretraining), [variant], ALL_SEEDS)
    return plan.settings(variant, chosen)
