"""Check the tasks of a plan one after the other, and list everything that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedmosaic.config import ModelSettings
from fedmosaic.data.checks.duplicates import ChosenItems, duplicate_notes, shared_items
from fedmosaic.data.checks.items import Progress, SplitItems, Taker, TaskChecker
from fedmosaic.data.checks.report import CheckedData, CheckedTask, Fault
from fedmosaic.data.sources import how_to_get
from fedmosaic.data.task_files import held_out
from fedmosaic.data_check.items import HELD_OUT, TaskItems, needs_folder, task_items
from fedmosaic.data_check.local_models import why_not_local
from fedmosaic.data_check.plan import CheckPlan, PlannedTask
from fedmosaic.errors import DataError, FedMosaicError, listed

Parts = dict[str, tuple[str, np.ndarray]]


def check_data(plan: CheckPlan, progress: Progress = lambda task, done: None) -> CheckedData:
    """Check all items of all tasks of a plan.

    Args:
        plan: the tasks, where their data is, and the models.
        progress: notified of the items checked.

    Raises:
        FedMosaicError: a model that the user named cannot be loaded.
    """
    found = CheckedData(plan.source)
    takers = _load(plan, found, progress)
    missing = _missing(plan)
    if missing:
        found.missing.append(Fault("", _missing_text(plan, missing), file=str(plan.data.root)))
    for planned in plan.tasks:
        if planned.spec.name not in missing:
            found.tasks.append(_check_task(planned, plan, takers, progress))
    return found


def _missing(plan: CheckPlan) -> list[str]:
    """Return the tasks whose data is not there at all: their folder, or their data set."""
    root = plan.data.root or Path()
    names = [planned.spec.name for planned in plan.tasks if needs_folder(planned)]
    return [name for name in names if not root.is_dir() or how_to_get([name], root)]


def _missing_text(plan: CheckPlan, names: Sequence[str]) -> str:
    root = plan.data.root or Path()
    way_out = how_to_get(names, root)
    if root.is_dir():
        return way_out
    return (
        f"{root} does not exist, which should hold the data of {listed(names, 5)};"
        f" {way_out or 'set data.root (or --root) to where it is'}"
    )


def _load(plan: CheckPlan, found: CheckedData, progress: Progress) -> dict[str, Taker]:
    """Load the models of a plan that are on this machine, or that the user named."""
    takers: dict[str, Taker] = {}
    settings = plan.settings.models if plan.settings else ModelSettings()
    for model in dict.fromkeys(model for planned in plan.tasks for model in planned.models):
        reason = "" if model in plan.asked else why_not_local(model)
        if not reason:
            from fedmosaic.data_check.takers import load_taker  # which waits for PyTorch

            progress(f"loading {model}", 0)
            try:
                takers[model] = load_taker(model, settings)
            except FedMosaicError as error:
                if model in plan.asked:
                    raise
                reason = str(error)
        if reason:
            found.unchecked[model] = reason
    return takers


def _check_task(
    planned: PlannedTask, plan: CheckPlan, takers: Mapping[str, Taker], progress: Progress
) -> CheckedTask:
    name = planned.spec.name
    checker = TaskChecker(name, [m for m in planned.models if m in takers], progress)
    found = checker.found
    try:
        items = task_items(planned, plan.data)
    except DataError as error:
        found.faults.append(Fault(name, str(error)))
        return found
    found.notes += items.notes
    for split, scanned in items.splits.items():
        names = {
            "train": planned.trainers,
            "public": planned.trainers,
            "test": planned.testers,
            HELD_OUT: planned.models,
        }[split]
        asked = {model: takers[model] for model in names if model in takers}
        checker.check(SplitItems(split, scanned, asked))
        found.notes += scanned.notes
    parts = _parts(checker, items, plan)
    checker.finish(parts)
    _check_whole(planned, checker, parts)
    return found


def _parts(checker: TaskChecker, items: TaskItems, plan: CheckPlan) -> Parts:
    """Return which of the items that were checked are of which split."""
    parts: Parts = {
        split: (split, np.ones(len(checker.columns[split]), dtype=bool)) for split in items.splits
    }
    if HELD_OUT in parts:
        del parts[HELD_OUT]
        count = checker.counts[HELD_OUT]
        numbers = np.array(checker.columns[HELD_OUT].numbers, dtype=np.int64)
        divided = held_out(count, checker.found.name, plan.data.seed) if count > 1 else ([], [])
        for split, chosen in zip(("train", "test"), divided, strict=True):
            parts[split] = (HELD_OUT, np.isin(numbers, chosen))
    return parts


def _check_whole(planned: PlannedTask, checker: TaskChecker, parts: Parts) -> None:
    """Check what concerns a task as a whole, and count its duplicates."""
    found, name = checker.found, planned.spec.name
    broken = bool(found.faults)
    chosen = {split: (checker.columns[key], mask) for split, (key, mask) in parts.items()}
    for split, (_, mask) in chosen.items():
        if not mask.any() and not broken:
            few = "it takes 2 items or more to train and test" if HELD_OUT in checker.counts else ""
            text = f"task {name!r} has no {split} items; {few or 'it must have at least one'}"
            found.faults.append(Fault(name, text))
    if planned.public:
        found.kind = found.metric = ""
    else:
        _set_kind(planned, checker, chosen)
    found.notes += [f"task {name!r}: {note}" for note in duplicate_notes(chosen)]
    found.shared, note = shared_items(chosen)
    found.notes += [f"task {name!r}: {note}"] if note else []


def _set_kind(planned: PlannedTask, checker: TaskChecker, chosen: ChosenItems) -> None:
    """Set kind and metric as a run does, and require options of a choice task's test items."""
    found, spec = checker.found, planned.spec
    columns, mask = chosen["test"]
    options = np.array(columns.options)[mask]
    images = np.array(columns.images)[mask]
    found.kind = spec.kind or ("choice" if (options > 0).any() else "open")
    open_metric = "f1" if (images > 0).any() else "rouge_l"
    found.metric = spec.metric or ("accuracy" if found.kind == "choice" else open_metric)
    if found.kind != "choice":
        return
    for index in np.flatnonzero(mask)[options == 0].tolist():
        text = (
            f"task {spec.name!r} is of kind 'choice', but this test item lists no options that"
            " contain its answer; give it an 'options' field, or say kind: open"
        )
        found.faults.append(
            Fault.of_item(spec.name, columns.locations[index], text, field="options")
        )
