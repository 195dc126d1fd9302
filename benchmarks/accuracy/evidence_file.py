"""Store what finished runs of the evidence gave: results/evidence/<part>.json.

::

    chosen  by row: the candidate that it chose in an earlier comparison, with one seed among
            2e-3, 4e-3 and 8e-3
    rates   by row and candidate: {"settings", "options", "seeds": {seed: {"self", "others"}}}
    runs    by row and seed: {"settings", "options", "steps", "rounds", "flops", "bytes", "seconds",
            "memory", "views": {view: {"Self", "Others", "in-group", "out-group",
            "Self, conflicting" (where tasks conflict),
            "clients": [[Self, Others] of each client]}}},
            or {"settings", "options", "failed"}

``settings`` and ``options`` are those of :class:`RunIdentity`. Accuracies are in percent. Bytes are
sums over clients and rounds, memory is the most that a process held in MB. With experts,
``answered_by`` has how many inputs each kind of model answered. Every run has a line of
its own, so that the additions of two machines can be merged as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock

from benchmarks.accuracy.evidence_identity import RunIdentity
from benchmarks.accuracy.evidence_parts import PARTS
from benchmarks.common.paths import RESULTS
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.summaries import COLUMNS as MEASURED
from fedmosaic.experiments.summaries import column_values
from fedmosaic.files import write_atomic

FIGURES = ("Self", "Others", "in-group", "out-group")
# Pairs of task families that ask the same question and expect other answers.
CONFLICTING_FAMILIES = ("concept", "bond", "outfit", "journey", "lesson", "ledger")
CONFLICTING = "Self, conflicting"
FOLDER = RESULTS / "evidence"

Content = dict[str, Any]


class EvidenceFile:
    """Read and extend the figures of one part.

    Args:
        part: name of the part.
        folder: folder of the files.
    """

    def __init__(self, part: str, folder: Path = FOLDER) -> None:
        self.part = part
        self.path = folder / f"{part}.json"

    def read(self) -> Content:
        """Return ``{"chosen", "rates", "runs"}``, all empty where nothing is stored yet."""
        content: Content = {"chosen": {}, "rates": {}, "runs": {}}
        return content | json.loads(self.path.read_text()) if self.path.is_file() else content

    def add_run(self, label: str, seed: int, figures: Mapping[str, Any]) -> None:
        """Store a run in place of an earlier one of the row and seed."""

        def change(content: Content) -> None:
            content["runs"].setdefault(label, {})[str(seed)] = figures

        self._change(change)

    def add_trial(
        self,
        label: str,
        candidate: str,
        identity: RunIdentity,
        seed: int,
        scores: Mapping[str, Any],
    ) -> None:
        """Store the validation figures of a candidate's run.

        Args:
            label: the row that chooses.
            candidate: what it may choose, ``key=value``.
            identity: of the run.
            seed: the run's seed.
            scores: ``self`` and ``others`` in percent, or ``failed``.
        """

        def change(content: Content) -> None:
            known = content["rates"].setdefault(label, {})
            if candidate not in known or not identity.stands(known[candidate]):
                known[candidate] = {**identity.stored, "seeds": {}}
            known[candidate]["seeds"][str(seed)] = scores

        self._change(change)

    def merge(self, other: Content) -> None:
        """Add the runs and trials of another machine's file, where this one has none.

        Args:
            other: the content of that file.
        """

        def change(content: Content) -> None:
            for section in ("rates", "runs"):
                for label, entries in other[section].items():
                    known = content[section].setdefault(label, {})
                    content[section][label] = {**entries, **known}

        self._change(change)

    def _change(self, change: Callable[[Content], None]) -> None:
        """Change the stored content; other processes may do the same meanwhile."""
        with FileLock(self.path.with_suffix(".lock")):
            content = self.read()
            change(content)
            write_atomic(self.path, as_text(content))


def as_text(content: Content) -> str:
    """Return the content as JSON with one line for each run and candidate."""
    chosen = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(content["chosen"].items())]
    sections = [' "chosen": {\n' + ",\n".join(chosen) + "\n }"] if chosen else []
    for section in ("rates", "runs"):
        rows = []
        for label, entries in sorted(content[section].items()):
            lines = [
                f"   {json.dumps(key)}: {json.dumps(entry)}"
                for key, entry in sorted(entries.items())
            ]
            rows.append(f"  {json.dumps(label)}: {{\n" + ",\n".join(lines) + "\n  }")
        text = "\n" + ",\n".join(rows) + "\n " if rows else ""
        sections.append(f' "{section}": {{{text}}}')
    return "{\n" + ",\n".join(sections) + "\n}\n"


def figures_of(part: str, summary: Mapping[str, Any], identity: RunIdentity) -> dict[str, Any]:
    """Return what is stored of a finished run.

    Args:
        part: name of the part.
        summary: the run's summary.
        identity: of the run.
    """
    main = summary["evaluation"]["view"]
    views = {main: summary}
    for name, found in summary["also"].items():
        view, _, stage = name.partition(", ")
        if stage == "after":
            views[view] = found
    flops = summary.get("flops") or {}
    return {
        **identity.stored,
        "steps": summary["steps"],
        "rounds": summary["rounds"]["of"],
        "flops": {name: round(value) for name, value in flops.items()},
        "bytes": summary["bytes"],
        "seconds": round(summary["seconds"]["total"], 1),
        "memory": round(summary["memory"] / 1e6),
        **({"answered_by": summary["answered_by"]} if "answered_by" in summary else {}),
        "views": {view: _view_figures(part, found) for view, found in views.items()},
    }


def _view_figures(part: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one view in percent."""
    figures: dict[str, Any] = {
        column: round(value, 3)
        for column in FIGURES
        for value in column_values({0: found}, column).values()
    }
    clients = found["clients"]
    if tasks := conflicting_tasks(part):
        values = [clients[client]["tasks"][task] for client, task in tasks]
        figures[CONFLICTING] = round(100 * fmean(values), 3)
    figures["clients"] = [
        [round(100 * client[side]["last"], 1) for side in ("self", "others")]
        for client in clients.values()
    ]
    return figures


def conflicting_tasks(part: str) -> list[tuple[str, str]]:
    """Return the clients and names of the conflicting tasks of a part."""
    return [
        (client, task)
        for client, tasks in own_tasks(PARTS[part].scenario).items()
        for task in tasks
        if task.removeprefix("miniature/").partition("-")[0] in CONFLICTING_FAMILIES
    ]


def as_summary(algorithm: str, run: Mapping[str, Any], view: str) -> dict[str, Any]:
    """Return one view of a stored run in the form of a run's summary."""
    summary: dict[str, Any] = {
        "algorithm": algorithm,
        **{name: run[name] for name in ("steps", "flops", "bytes")},
        "rounds": {"of": run["rounds"]},
        "seconds": {"total": run["seconds"]},
    }
    for column in FIGURES:
        at = summary
        *inner, last = MEASURED[column]
        for name in inner:
            at = at.setdefault(name, {})
        at[last] = run["views"][view][column] / 100
    return summary


def own_tasks(scenario: str) -> dict[str, Sequence[str]]:
    """Return the tasks of each client of a scenario by name."""
    return {
        client.name: [task.name for task in client.tasks]
        for client in load_scenario(scenario).clients
    }
