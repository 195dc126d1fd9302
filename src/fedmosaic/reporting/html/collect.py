"""What a report reads: run folders, and comparison folders that hold many. A run that cannot be used becomes a note, not an error."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.errors import CheckpointError, FedMosaicError
from fedmosaic.evaluation import Record, summarise
from fedmosaic.experiments.adaptation import FILE, read_adaptation
from fedmosaic.experiments.compare import PLAN, RESULT
from fedmosaic.experiments.summaries import compare_summaries
from fedmosaic.experiments.variants import slug
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.packing import read_some

GATE = re.compile(r"adapter/local/gate\.(\d+)\..+")
LAYER = re.compile(r"adapter/local/layer\.(\d+)\..+")


@dataclass(frozen=True)
class Relevance:
    """What the server found in a round.

    Attributes:
        weights: [n][n], row i: how much of each client's knowledge client i receives. similarity: of their signatures, [n][n].
    """

    clients: Sequence[str]
    weights: Sequence[Sequence[float]]
    similarity: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Gate:
    """Of a layer: g = σ(β), the share of the global branch, averaged over its modules; whether the layer is a block end."""

    share: float
    block_end: bool


@dataclass(frozen=True)
class RunData:
    """One finished run.

    Attributes:
        label: what the comparison calls it; None for a run of its own.
        config: the text of ``config.yaml``.
        summary: see :func:`fedmosaic.federation.run.summary_of`.
        curves: ``{"Self" or "Others": {round from 0: accuracy in percent}}`` over the evaluated rounds.
        relevance: by round, where the algorithm reports it.
        gates: {client: {layer: gate}}, from the last checkpoint, where the algorithm has gates.
        adaptation: what ``fedmosaic adapt`` measured; None if it was not asked.
    """

    folder: Path
    label: str | None
    settings: RunSettings
    config: str
    summary: Mapping[str, Any]
    curves: Mapping[str, Mapping[int, float]]
    relevance: Mapping[int, Relevance]
    gates: Mapping[str, Mapping[int, Gate]]
    adaptation: Mapping[str, Any] | None = None


@dataclass
class Collected:
    """All runs that can be used, and a line for everything that cannot."""

    runs: list[RunData] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(folders: Sequence[Path]) -> Collected:
    """Read everything.

    Raises:
        CheckpointError: a folder that is neither a run nor a comparison, or nothing that can be used at all.
    """
    found = Collected()
    for folder in folders:
        if (folder / PLAN).is_file() or (folder / RESULT).is_file():
            _comparison(folder, found)
        elif (folder / "config.yaml").is_file():
            _add(folder, None, str(folder), found)
        else:
            what = "holds neither a run nor a comparison" if folder.is_dir() else "is not a folder"
            raise CheckpointError(
                f"{folder} {what}; name folders that fedmosaic run or fedmosaic compare made"
            )
    if not found.runs:
        raise CheckpointError("nothing to report: " + "; ".join(found.notes or ["no runs"]))
    return found


def _comparison(folder: Path, found: Collected) -> None:
    """The runs that ``comparison.json`` is about; of a comparison that has not got so far, those that ``plan.json`` names."""
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
        found.notes.append(f"{path} is damaged and was left out: {_reason(error)}")
        return
    if not finished:
        found.notes.append(f"the comparison in {folder} is not finished; shown is what it has")
    for label in labels:
        for seed in _seeds_in(folder / slug(label)) if seeds is None else seeds:
            name = f"{label}, seed {seed}"
            if (label, seed) in failed:
                found.notes.append(f"{name} failed and is left out: {failed[label, seed]}")
            else:
                _add(folder / slug(label) / f"seed-{seed}", label, name, found)


def _seeds_in(folder: Path) -> list[int]:
    names = [entry.name.removeprefix("seed-") for entry in folder.glob("seed-*") if entry.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal())


def _add(folder: Path, label: str | None, name: str, found: Collected) -> None:
    """Read one run, or note why it cannot be used."""
    try:
        run = read_run(folder, label)
    except FedMosaicError as error:
        found.notes.append(f"{name} is left out: {error}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        found.notes.append(f"{name} is damaged and was left out: {_reason(error)} (in {folder})")
    else:
        found.runs.append(run)


def read_run(folder: Path, label: str | None = None) -> RunData:
    """Everything that a report shows of a finished run.

    Raises:
        CheckpointError: no run, or one that has not finished. ValueError, KeyError and the like: a damaged one.
    """
    opened, settings = RunFolder.open(folder)
    lines = opened.lines()
    summary = opened.summary()
    clients = settings.scenario.clients
    if summary is None:
        done = sum(line["kind"] == "round" for line in lines)
        raise CheckpointError(
            f"it has finished {done} of {settings.scenario.rounds} rounds; continue it with: fedmosaic run --resume {folder}"
        )
    if (summary["algorithm"], summary["seed"]) != (settings.algorithm, settings.seed):
        raise ValueError("its summary.json belongs to another run than its config.yaml")
    if set(summary["clients"]) != {client.name for client in clients}:
        raise ValueError("its summary.json names other clients than its config.yaml")
    _finite(summary)
    compare_summaries(
        {settings.algorithm: {settings.seed: summary}}
    )  # a damaged one fails here, where it can be named
    scores = [Record.from_json(line) for line in lines if line["kind"] == "score"]
    curves = _curves(scores, clients, summary["evaluation"]["view"])
    relevance = {
        int(line["round"]): Relevance(
            [str(name) for name in line["relevance"]["clients"]],
            _square(line["relevance"]["weights"], len(line["relevance"]["clients"])),
            _square(line["relevance"]["similarity"], len(line["relevance"]["clients"])),
        )
        for line in lines
        if line["kind"] == "round" and "relevance" in line
    }
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    path = folder / FILE
    adaptation = read_adaptation(path) if path.is_file() else None
    return RunData(
        folder,
        label,
        settings,
        config,
        summary,
        curves,
        relevance,
        _gates(opened, clients),
        adaptation,
    )


def _finite(value: Any) -> None:
    """Refuse numbers that no table can hold."""
    if isinstance(value, dict):
        for part in value.values():
            _finite(part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("its summary.json holds a number that is not finite")


def _curves(
    scores: Sequence[Record], clients: Sequence[ClientSpec], view: str
) -> dict[str, dict[int, float]]:
    """Self and Others after every evaluated round, by the definitions of the summary."""
    rounds: dict[int, list[Record]] = defaultdict(list)
    for record in scores:
        if not math.isfinite(record.value):
            raise ValueError("its metrics.jsonl holds a score that is not finite")
        rounds[record.round].append(record)
    curves: dict[str, dict[int, float]] = {"Self": {}, "Others": {}}
    for number, records in sorted(rounds.items()):
        measured = summarise(records, clients, view=view)
        for column, curve in curves.items():
            if (value := measured[column.lower()]["last"]) is not None:
                curve[number] = 100 * value
    return curves


def _square(rows: Sequence[Sequence[Any]], size: int) -> list[list[float]]:
    matrix = [[float(value) for value in row] for row in rows]
    if len(matrix) != size or any(len(row) != size for row in matrix):
        raise ValueError(f"a relevance matrix in its metrics.jsonl is not {size} × {size}")
    if not all(math.isfinite(value) for row in matrix for value in row):
        raise ValueError("a relevance matrix in its metrics.jsonl is not finite")
    return matrix


def _gates(folder: RunFolder, clients: Sequence[ClientSpec]) -> dict[str, dict[int, Gate]]:
    """The scalar gates of each client's last checkpoint; a gate that depends on the input has no value of its own."""
    checkpoint = folder.latest()
    found = {}
    for client in clients if checkpoint is not None else ():
        path = checkpoint / "clients" / f"{client.name}.safetensors"  # type: ignore[operator]
        if path.is_file() and (gates := dict(_layers(path))):
            found[client.name] = gates
    return found


def _layers(path: Path) -> Iterator[tuple[int, Gate]]:
    names, tensors = read_some(path, lambda name: GATE.fullmatch(name) is not None)
    ordinary = {int(match[1]) for name in names if (match := LAYER.fullmatch(name))}
    layers: dict[int, list[float]] = defaultdict(list)
    for name, beta in tensors.items():
        match = GATE.fullmatch(name)
        if match and beta.numel() == 1:
            layers[int(match[1])].append(float(beta.double().sigmoid()))
    for layer, shares in sorted(layers.items()):
        yield layer, Gate(math.fsum(shares) / len(shares), layer not in ordinary)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error}"
    return " ".join(str(error).split()) or type(error).__name__
