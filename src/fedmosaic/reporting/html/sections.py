"""Group the runs of one scenario by label and seed, with the statistics of a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedmosaic.config import Scenario
from fedmosaic.experiments.adaptation import ADAPTED, complete, mean_curve
from fedmosaic.experiments.statistics import Interval, interval, paired
from fedmosaic.experiments.summaries import REFERENCE, column_values, compare_summaries, measured
from fedmosaic.experiments.variants import COMMON
from fedmosaic.reporting.comparison import shown_columns
from fedmosaic.reporting.html.collect import Collected
from fedmosaic.reporting.html.run_data import RunData
from fedmosaic.reporting.measures import named

ORACLES = ("pooled",)


@dataclass(frozen=True)
class Section:
    """Hold runs that measure the same thing.

    Attributes:
        name: of the scenario.
        runs: by label and seed.
        difference: what differs from an earlier section of the same name; empty for the first.
        notes: on runs that were named twice.
    """

    name: str
    runs: Mapping[str, Mapping[int, RunData]]
    difference: str = ""
    notes: Sequence[str] = ()

    @property
    def scenario(self) -> Scenario:
        """The scenario of the first run; clients, tasks and data are those of all runs."""
        return next(iter(self.first.values())).settings.scenario

    @property
    def has_groups(self) -> bool:
        """Whether the clients belong to at least two groups."""
        return len({client.group for client in self.scenario.clients}) > 1

    @property
    def first(self) -> dict[str, RunData]:
        """The run with the lowest seed, for each label."""
        return {label: runs[min(runs)] for label, runs in self.runs.items()}

    @property
    def seeds(self) -> list[int]:
        """All seeds, in order."""
        return sorted({seed for runs in self.runs.values() for seed in runs})

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The figures that ``comparison.json`` calls ``algorithms``."""
        return compare_summaries(self._summaries)

    @property
    def measure(self) -> str:
        """The names of the measures of the tasks, such as ``accuracy``."""
        return named(measured(self._summaries))

    @property
    def explained_measure(self) -> str:
        """Name the measures, and say that every task has its own where there are several."""
        return named(measured(self._summaries), explained=True)

    @property
    def adaptation_measure(self) -> str:
        """The names of the measures of the new tasks that clients adapted to."""
        found = (run.adaptation for runs in self.runs.values() for run in runs.values())
        return named(name for content in found if content for name in content["metrics"].values())

    @property
    def _summaries(self) -> dict[str, dict[int, Mapping[str, Any]]]:
        return {
            label: {seed: run.summary for seed, run in runs.items()}
            for label, runs in self.runs.items()
        }

    @property
    def columns(self) -> list[str]:
        """The columns that were measured; AUC only where more than one round was evaluated."""
        curves = [
            curve
            for runs in self.runs.values()
            for run in runs.values()
            for curve in run.curves.values()
        ]
        areas = any(len(curve) > 1 for curve in curves)
        return [c for c in shown_columns(self.rows) if areas or not c.endswith("AUC")]

    @property
    def reference(self) -> str | None:
        """The label of local training; None if it is not in this section."""
        return REFERENCE if REFERENCE in self.runs else None

    def has(self, figure: str) -> bool:
        """Return whether any row holds ``"minus sft"``, ``"minus best"`` or ``"rank"``."""
        return any(figure in row.get(c, {}) for row in self.rows.values() for c in self.columns)

    def values(self, label: str, column: str) -> dict[int, float]:
        """Return a column of a label by seed, in percent."""
        return column_values({seed: run.summary for seed, run in self.runs[label].items()}, column)

    def gap(self, one: str, other: str, column: str) -> Interval | None:
        """Return ``one − other``, paired by seed; None if they share no seed."""
        return paired(self.values(one, column), self.values(other, column))

    def is_oracle(self, label: str) -> bool:
        """Return whether a label uses what no client may know: all data, or related tasks."""
        run = self.first[label]
        return run.settings.algorithm in ORACLES or (
            run.settings.scenario.relevance.kind == "oracle" and bool(run.relevance)
        )

    def curve(self, label: str, column: str) -> dict[int, Interval]:
        """Return the mean over seeds after every round that all seeds evaluated."""
        curves = [run.curves[column] for run in self.runs[label].values()]
        rounds = sorted(set.intersection(*(set(curve) for curve in curves)))
        return {number: interval([curve[number] for curve in curves]) for number in rounds}

    def adaptation(self, label: str, kind: str = ADAPTED) -> dict[int, Interval]:
        """Return the score on new tasks in percent by local steps.

        Only complete measurements with the settings of the section's first one count.

        Args:
            label: the label.
            kind: the adapter that the clients started with.

        Returns:
            Means over clients and tasks, then over seeds.
        """
        measured = [
            run.adaptation for runs in self.runs.values() for run in runs.values() if run.adaptation
        ]
        own = [
            run.adaptation
            for run in self.runs[label].values()
            if run.adaptation and complete(run.adaptation, kind)
        ]
        curves = [
            mean_curve(found[kind]) for found in own if found["settings"] == measured[0]["settings"]
        ]
        every = measured[0]["settings"]["every"] if measured else 0
        return {
            point * every: interval([100 * curve[point] for curve in curves])
            for point in range(min(map(len, curves), default=0))
        }

    def megabytes(self, label: str) -> float:
        """Return what all clients send and receive in a run, in 10⁶ bytes, mean over seeds."""
        runs = self.runs[label].values()
        return sum(sum(run.summary["bytes"].values()) for run in runs) / len(runs) / 1e6

    def teraflops(self, label: str) -> float | None:
        """Return the operations of a run in 10¹², without evaluation.

        The number covers all clients that take part and the server. It is None where operations
        were not counted.
        """
        run = self.first[label]
        if not (flops := run.summary.get("flops")):
            return None
        total = run.summary["rounds"]["done"] * (
            run.settings.scenario.participants * flops["client_round"] + flops["server_round"]
        )
        return float(total) / 1e12


def sections(collected: Collected) -> list[Section]:
    """Group runs that measure the same thing, in the order in which they were named.

    Runs of one label and the same settings become one row of the table. A single run joins the
    label with equal settings; otherwise its algorithm is its label. Where that would give two
    different settings the same label, the label also names the difference.
    """
    groups: dict[str, list[RunData]] = {}
    for run in collected.runs:
        groups.setdefault(run.settings.name + _text(_measured(run)), []).append(run)
    found: list[Section] = []
    for runs in groups.values():
        name = runs[0].settings.name
        earlier = next((section for section in found if section.name == name), None)
        difference = (
            _difference(_measured(earlier.first[next(iter(earlier.first))]), _measured(runs[0]))
            if earlier
            else ""
        )
        labelled, notes = _labelled(runs)
        found.append(Section(name, labelled, difference, notes))
    return found


def _measured(run: RunData) -> dict[str, Any]:
    """Return the settings that must be equal for two runs to be compared."""
    scenario = run.settings.scenario.model_dump(mode="json")
    return {key: scenario[key] for key in (*COMMON, "stream")}


def _settings(run: RunData) -> dict[str, Any]:
    """Return the settings that must be equal for two runs to differ in their seed alone."""
    return {"algorithm": run.settings.algorithm, **run.settings.scenario.model_dump(mode="json")}


def _labelled(runs: Sequence[RunData]) -> tuple[dict[str, dict[int, RunData]], list[str]]:
    """Return the runs by label and seed, and a note for each run that repeats another."""
    named = {_text(_settings(run)): run.label for run in runs if run.label is not None}
    equal: dict[tuple[str, str], list[RunData]] = {}
    for run in runs:
        key = _text(_settings(run))
        label = run.label or named.get(key) or run.settings.algorithm
        equal.setdefault((label, key), []).append(run)
    found: dict[str, dict[int, RunData]] = {}
    notes = []
    for (label, _), same in equal.items():
        if label in found:
            first = next(iter(found[label].values()))
            label += f" ({_difference(_settings(first), _settings(same[0]))})"
        name, number = label, 1
        while name in found:
            number += 1
            name = f"{label} {number}"
        found[name] = {}
        for run in same:
            other = found[name].setdefault(run.settings.seed, run)
            if other.folder.resolve() != run.folder.resolve():
                notes.append(
                    f"{run.folder} is left out: "
                    f"{other.folder} has the same settings and the same seed"
                )
        found[name] = dict(sorted(found[name].items()))
    return found, notes


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True)


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Name the settings in which ``other`` differs from ``one``, at most two of them in full.

    Returns:
        Text such as ``train.lr=0.002, rounds=4``.
    """
    before, after = _flat(one), _flat(other)
    keys = [key for key in {**after, **before} if before.get(key) != after.get(key)]
    shown = [f"{key}={_short(after.get(key))}" for key in keys[:2]]
    return ", ".join(shown + ([f"and {len(keys) - 2} more"] if len(keys) > 2 else []))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _flat(content: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{place}{key}.")
        else:
            flat[f"{place}{key}"] = value
    return flat
