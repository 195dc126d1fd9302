"""Read everything that a report shows of one finished run."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.errors import CheckpointError
from fedmosaic.evaluation import Record, summarise
from fedmosaic.experiments.adaptation import FILE, read_adaptation
from fedmosaic.experiments.summaries import compare_summaries
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.packing import read_some
from fedmosaic.reporting.measures import named

GATE = re.compile(r"adapter/local/gate\.(\d+)\..+")
LAYER = re.compile(r"adapter/local/layer\.(\d+)\..+")


@dataclass(frozen=True)
class RoundRelevance:
    """Hold the relevance of clients to each other that the server found in a round.

    Attributes:
        clients: names of the n clients, in the order of rows and columns.
        weights: [n][n]; row i holds the share of each client in what client i receives.
        similarity: [n][n]; cosine of the clients' signatures.
        peers: [n][c]; the peers whose weights and similarities, then [n][c], row i holds, those
            with the largest weights of many. None: all, in order.
    """

    clients: Sequence[str]
    weights: Sequence[Sequence[float]]
    similarity: Sequence[Sequence[float]]
    peers: Sequence[Sequence[int]] | None = None

    def row(self, index: int) -> Iterator[tuple[int, float, float]]:
        """Yield place, weight and similarity of each client that row ``index`` holds."""
        places = range(len(self.clients)) if self.peers is None else self.peers[index]
        yield from zip(places, self.weights[index], self.similarity[index], strict=True)


@dataclass(frozen=True)
class LayerGate:
    """Describe the gate of a layer.

    Attributes:
        share: g = σ(β), the share of the global branch from 0 to 1, mean over the layer's modules.
        block_end: the layer is the last of a block.
    """

    share: float
    block_end: bool


@dataclass(frozen=True)
class RunData:
    """Hold a finished run.

    Attributes:
        folder: the run folder.
        label: its label in a comparison; None for a single run.
        settings: the settings of the run.
        config: the text of ``config.yaml``.
        summary: see :func:`fedmosaic.federation.run_summary.summary_of`.
        curves: ``{"Self" or "Others": {round, from 0: score in percent}}``, evaluated rounds.
        relevance: by round; empty if the algorithm does not report it.
        gates: by client and layer, from the last checkpoint; empty if the algorithm has no gates.
        metrics: the metric of every task that was evaluated.
        adaptation: what ``fedmosaic adapt`` measured; None if it was not run.
        placement: which modules carry adapters and what is shared
            (:func:`fedmosaic.federation.placement.describe`); None in a run of an earlier version.
    """

    folder: Path
    label: str | None
    settings: RunSettings
    config: str
    summary: Mapping[str, Any]
    curves: Mapping[str, Mapping[int, float]]
    relevance: Mapping[int, RoundRelevance]
    gates: Mapping[str, Mapping[int, LayerGate]]
    metrics: Mapping[str, str]
    adaptation: Mapping[str, Any] | None = None
    placement: Mapping[str, Any] | None = None

    def measure(self, task: str) -> str:
        """Return the name of the measure of a task."""
        return named([self.metrics[task]] if task in self.metrics else ())


def read_run(folder: Path, label: str | None = None) -> RunData:
    """Read a finished run.

    Args:
        folder: the run folder.
        label: its label in a comparison; None for a single run.

    Returns:
        The run.

    Raises:
        CheckpointError: the folder holds no run, or a run that has not finished.
        ValueError: a file of the run is damaged. KeyError, TypeError, AttributeError, IndexError
            and OSError mean the same.
    """
    opened, settings = RunFolder.open(folder)
    lines = opened.lines()
    clients = settings.scenario.clients
    summary = opened.summary()
    if summary is None:
        opened.require_current()
        done = sum(line["kind"] == "round" for line in lines)
        raise CheckpointError(
            f"it has finished {done} of {settings.scenario.rounds} rounds; "
            f"continue it with: {settings.continue_command(folder)}"
        )
    _check(summary, settings)
    scores = [Record.from_json(line) for line in lines if line["kind"] == "score"]
    path = folder / FILE
    return RunData(
        folder,
        label,
        settings,
        (folder / "config.yaml").read_text(encoding="utf-8"),
        summary,
        _curves(scores, clients, summary["evaluation"]["view"]),
        _relevance(lines),
        _gates(opened, clients),
        {record.task: record.metric for record in scores},
        read_adaptation(path) if path.is_file() else None,
        opened.placement(),
    )


def _check(summary: Mapping[str, Any], settings: RunSettings) -> None:
    """Raise an error if the summary is damaged or belongs to another run."""
    if (summary["algorithm"], summary["seed"]) != (settings.algorithm, settings.seed):
        raise ValueError("its summary.json belongs to another run than its config.yaml")
    if set(summary["clients"]) != {client.name for client in settings.scenario.clients}:
        raise ValueError("its summary.json names other clients than its config.yaml")
    _check_finite(summary)
    # A summary without the figures of a comparison fails here, where the run can be named.
    compare_summaries({settings.algorithm: {settings.seed: summary}})


def _check_finite(value: Any) -> None:
    """Raise ValueError for numbers that no table can hold."""
    if isinstance(value, dict):
        for part in value.values():
            _check_finite(part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("its summary.json holds a number that is not finite")


def _curves(
    scores: Sequence[Record], clients: Sequence[ClientSpec], view: str
) -> dict[str, dict[int, float]]:
    """Compute Self and Others after every evaluated round, as the summary defines them."""
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


def _relevance(lines: Sequence[Mapping[str, Any]]) -> dict[int, RoundRelevance]:
    found = {}
    for line in lines:
        if line["kind"] == "round" and "relevance" in line:
            relevance = line["relevance"]
            clients = [str(name) for name in relevance["clients"]]
            peers = relevance.get("peers")
            widths = [len(row) for row in peers] if peers else [len(clients)] * len(clients)
            if peers and not all(0 <= place < len(clients) for row in peers for place in row):
                raise ValueError("a peer in its metrics.jsonl is none of its clients")
            weights = _rows(relevance["weights"], widths)
            similarity = _rows(relevance["similarity"], widths)
            found[int(line["round"])] = RoundRelevance(clients, weights, similarity, peers)
    return found


def _rows(rows: Sequence[Sequence[Any]], widths: Sequence[int]) -> list[list[float]]:
    matrix = [[float(value) for value in row] for row in rows]
    if [len(row) for row in matrix] != list(widths):
        size = len(widths)
        raise ValueError(f"a relevance matrix in its metrics.jsonl does not fit {size} clients")
    if not all(math.isfinite(value) for row in matrix for value in row):
        raise ValueError("a relevance matrix in its metrics.jsonl is not finite")
    return matrix


def _gates(folder: RunFolder, clients: Sequence[ClientSpec]) -> dict[str, dict[int, LayerGate]]:
    """Read the scalar gates of each client's last checkpoint.

    A gate that depends on the input has no value of its own and is left out.
    """
    checkpoint = folder.latest()
    if checkpoint is None:
        return {}
    found = {}
    for client in clients:
        path = checkpoint / "clients" / f"{client.name}.safetensors"
        if path.is_file() and (gates := dict(_layer_gates(path))):
            found[client.name] = gates
    return found


def _layer_gates(path: Path) -> Iterator[tuple[int, LayerGate]]:
    names, tensors = read_some(path, lambda name: GATE.fullmatch(name) is not None)
    ordinary = {int(match[1]) for name in names if (match := LAYER.fullmatch(name))}
    layers: dict[int, list[float]] = defaultdict(list)
    for name, beta in tensors.items():
        match = GATE.fullmatch(name)
        if match and beta.numel() == 1:
            layers[int(match[1])].append(float(beta.double().sigmoid()))
    for layer, shares in sorted(layers.items()):
        yield layer, LayerGate(math.fsum(shares) / len(shares), layer not in ordinary)
