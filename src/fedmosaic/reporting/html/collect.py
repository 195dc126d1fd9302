"""Collect the runs that a report shows, from run folders and comparison folders.

A run that cannot be used becomes a note on the page, not an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedmosaic.errors import CheckpointError, FedMosaicError
from fedmosaic.experiments.compare import PLAN
from fedmosaic.experiments.stored import RESULT
from fedmosaic.experiments.variants import slug
from fedmosaic.reporting.html.run_data import RunData, read_run
from fedmosaic.reporting.privacy import privacy_lines
from fedmosaic.reporting.summary import data_notes, defence_notes


@dataclass
class Collected:
    """Hold the runs of a report.

    Attributes:
        runs: all runs that can be used.
        notes: a sentence for everything that cannot be used.
    """

    runs: list[RunData] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(folders: Sequence[Path]) -> Collected:
    """Read all runs in some folders.

    Args:
        folders: run folders and comparison folders.

    Returns:
        The runs, and notes on what was left out.

    Raises:
        CheckpointError: a folder holds neither a run nor a comparison, or no run can be used.
    """
    collected = Collected()
    for folder in folders:
        if (folder / PLAN).is_file() or (folder / RESULT).is_file():
            _add_comparison(folder, collected)
        elif (folder / "config.yaml").is_file():
            _add_run(folder, None, str(folder), collected)
        else:
            what = "holds neither a run nor a comparison" if folder.is_dir() else "is not a folder"
            raise CheckpointError(
                f"{folder} {what}; name folders that fedmosaic run or fedmosaic compare made"
            )
    if not collected.runs:
        raise CheckpointError("nothing to report: " + "; ".join(collected.notes or ["no runs"]))
    return collected


def _add_comparison(folder: Path, collected: Collected) -> None:
    """Add the runs of ``comparison.json``; of an unfinished comparison, those of ``plan.json``."""
    finished = (folder / RESULT).is_file()
    path = folder / (RESULT if finished else PLAN)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = [str(label) for label in content["variants"]]
        seeds = [int(seed) for seed in content["seeds"]] if finished else None
        failed = {
            (str(entry["label"]), int(entry["seed"])): entry["reason"]
            for entry in content.get("failed", [])
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        collected.notes.append(f"{path} is damaged and was left out: {_reason(error)}")
        return
    if not finished:
        collected.notes.append(
            f"the comparison in {folder} is not finished; the page shows the runs so far"
        )
    for label in labels:
        for seed in _seeds_in(folder / slug(label)) if seeds is None else seeds:
            name = f"{label}, seed {seed}"
            if (label, seed) in failed:
                collected.notes.append(f"{name} failed and is left out: {failed[label, seed]}")
            else:
                _add_run(folder / slug(label) / f"seed-{seed}", label, name, collected)


def _seeds_in(folder: Path) -> list[int]:
    names = [entry.name.removeprefix("seed-") for entry in folder.glob("seed-*") if entry.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal())


def _add_run(folder: Path, label: str | None, name: str, collected: Collected) -> None:
    """Add one run, or a note that says why it cannot be used."""
    try:
        run = read_run(folder, label)
    except FedMosaicError as error:
        collected.notes.append(f"{name} is left out: {error}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        collected.notes.append(
            f"{name} is damaged and was left out: {_reason(error)} (in {folder})"
        )
    else:
        collected.runs.append(run)
        found = privacy_lines(run.summary.get("privacy")) + defence_notes(run.summary)
        found += data_notes(run.summary)
        collected.notes += [f"{name}: {note}" for note in found]


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error}"
    return " ".join(str(error).split()) or type(error).__name__
