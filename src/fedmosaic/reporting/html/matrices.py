"""Coloured tables of a section: relevance among clients over time, accuracy of each client on each task, gates per layer.

A matrix is a table with rows and columns that do not change, and frames of whole numbers (thousandths) that the page puts into it: one
sequence over rounds for every combination of what can be chosen (algorithm, seed, …).
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmosaic.config import ClientSpec
from fedmosaic.reporting.html.collect import RunData
from fedmosaic.reporting.html.sections import Section
from fedmosaic.reporting.html.verdict import inside_share

# Numbers that a page can hold for one matrix; beyond them single seeds go first, then rounds.
MOST = 500_000
Cells = list[int | None]


@dataclass(frozen=True)
class Head:
    """Of a row or column: a short name, the full one, its group, and whether a new group begins with it."""

    name: str
    title: str
    group: str = ""
    first: bool = False


@dataclass(frozen=True)
class Matrix:
    """A table to be filled.

    Attributes:
        name: of the matrix. caption: what it shows and how to read it.
        marked: (row, column) of the cells with an outline. choices: {what: options}, all combinations of which have frames.
        rounds: names of the frames of each combination; a single one needs no slider.
        frames: {"0.1.…" (the options' places): {"scale", "cells": one row-major list a round, "info": one text a round}}.
    """

    name: str
    caption: str
    rows: Sequence[Head]
    columns: Sequence[Head]
    marked: frozenset[tuple[int, int]]
    choices: Mapping[str, Sequence[str]]
    rounds: Sequence[str]
    frames: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @property
    def first(self) -> list[list[int | None]]:
        """The rows that are shown first: the last round of the first combination."""
        cells = next(iter(self.frames.values()))["cells"][-1]
        width = len(self.columns)
        return [cells[start : start + width] for start in range(0, len(cells), width)]

    @property
    def first_scale(self) -> int:
        return int(next(iter(self.frames.values()))["scale"])

    @property
    def first_info(self) -> str:
        info = next(iter(self.frames.values()))["info"]
        return str(info[-1]) if info else ""


def relevance(section: Section) -> Matrix | None:
    """How much of whose knowledge each client received, round by round; None where no run reports it."""
    labels = [
        label for label, runs in section.runs.items() if any(run.relevance for run in runs.values())
    ]
    if not labels:
        return None
    clients = by_group(section.scenario.clients)
    rounds = sorted(
        {n for label in labels for run in section.runs[label].values() for n in run.relevance}
    )
    seeds: Sequence[int] = section.seeds if len(section.seeds) > 1 else []
    one = 2 * len(labels) * len(clients) ** 2
    note = ""
    if one * len(rounds) * (1 + len(seeds)) > MOST:
        seeds = []
        kept = rounds[:: -(-one * len(rounds) // MOST)]
        rounds = sorted({*kept, rounds[-1]})
        note = " To keep the page small it shows means over seeds, and not every round."
    names = [client.name for client in clients]
    frames = {}
    kinds: dict[str, Callable[[Any], Any]] = {
        "weights": lambda r: r.weights,
        "similarity": lambda r: r.similarity,
    }
    sets: list[Sequence[int] | None] = [None, *([seed] for seed in seeds)]
    for (a, label), (k, kind), (s, chosen) in itertools.product(
        enumerate(labels), enumerate(kinds), enumerate(sets)
    ):
        runs = [
            run for seed, run in section.runs[label].items() if chosen is None or seed in chosen
        ]
        cells = [_mean_matrix(runs, number, names, kinds[kind]) for number in rounds]
        scale = max(
            (abs(value) for frame in cells for value in frame if value is not None), default=1
        )
        info = [_inside(runs, number, clients) for number in rounds]
        frames[f"{a}.{k}.{s}"] = {"scale": scale or 1, "cells": cells, "info": info}
    choices = {
        "algorithm": labels,
        "show": ["weights, %", "similarity of signatures, cosine × 100"],
        "seed": ["mean over seeds", *(f"seed {seed}" for seed in seeds)],
    }
    pairs = itertools.permutations(range(len(clients)), 2)
    inside = frozenset(
        (i, j) for i, j in pairs if clients[i].group == clients[j].group and clients[i].group
    )
    return Matrix(
        "relevance",
        "A row says whom a client learned from: the share of each other client in what it received. Outlined: clients of one group."
        + note,
        _client_heads(clients),
        _client_heads(clients, short=True),
        inside,
        choices,
        [f"round {number + 1}" for number in rounds],
        frames,
    )


def accuracy(section: Section) -> Matrix | None:
    """Accuracy of each client on each task after the last round, and the difference to local training."""
    clients = by_group(section.scenario.clients)
    own = {client.name: [task.name for task in client.tasks] for client in clients}
    measured = {
        task
        for runs in section.runs.values()
        for run in runs.values()
        for c in run.summary["clients"].values()
        for task in c["tasks"]
    }
    order = dict.fromkeys(task for tasks in own.values() for task in tasks if task in measured)
    unseen = sorted(measured - order.keys())
    if not measured:
        return None
    group = {task: client.group for client in reversed(clients) for task in own[client.name]}
    tasks = [*order, *unseen]
    reference = section.reference
    means = {
        label: [
            [
                _mean(
                    run.summary["clients"][client.name]["tasks"].get(task) for run in runs.values()
                )
                for client in clients
            ]
            for task in tasks
        ]
        for label, runs in sorted(
            section.runs.items(), key=lambda entry: (entry[0] != "fedmosaic", entry[0] == reference)
        )
    }
    shows = [
        "accuracy, %",
        *([f"difference to {reference}, points"] if reference and len(means) > 1 else []),
    ]
    frames = {}
    for a, values in enumerate(means.values()):
        cells = [_thousandths(value) for row in values for value in row]
        frames[f"{a}.0"] = {"scale": 1000, "cells": [cells], "info": []}
        if reference and len(shows) > 1:
            base = [_thousandths(value) for row in means[reference] for value in row]
            gaps = [
                None if x is None or y is None else x - y for x, y in zip(cells, base, strict=True)
            ]
            frames[f"{a}.1"] = {"scale": 400, "cells": [gaps], "info": []}
    cut = _common(tasks)
    heads: list[Head] = []
    for index, task in enumerate(tasks):
        kind = group.get(task, "unseen")
        heads.append(Head(task[cut:], task, kind, index > 0 and kind != heads[-1].group))
    marked = frozenset(
        (i, j)
        for i, task in enumerate(tasks)
        for j, client in enumerate(clients)
        if task in own[client.name]
    )
    caption = "Accuracy of each client (column) on each task (row) after the last round, mean over seeds. Outlined: a client's own tasks."
    columns = _client_heads(clients, short=True)
    return Matrix(
        "tasks",
        caption,
        heads,
        columns,
        marked,
        {"algorithm": list(means), "show": shows},
        ["last"],
        frames,
    )


def gates(section: Section) -> Matrix | None:
    """The share of the global branch in each layer of each client; None where no algorithm has gates."""
    labels = [
        label for label, runs in section.runs.items() if any(run.gates for run in runs.values())
    ]
    if not labels:
        return None
    clients = by_group(section.scenario.clients)
    runs = [run for label in labels for run in section.runs[label].values()]
    layers = 1 + max(layer for run in runs for found in run.gates.values() for layer in found)
    frames = {}
    for a, label in enumerate(labels):
        mine = [run.gates for run in section.runs[label].values()]
        cells = [
            _thousandths(
                _mean(
                    found[c.name][layer].share for found in mine if layer in found.get(c.name, {})
                )
            )
            for c in clients
            for layer in range(layers)
        ]
        frames[str(a)] = {"scale": 1000, "cells": [cells], "info": []}
    first = next(run.gates for run in runs if run.gates)
    ends = frozenset(
        (row, layer)
        for row, client in enumerate(clients)
        for layer, gate in first.get(client.name, {}).items()
        if gate.block_end
    )
    caption = (
        "g = σ(β), the share of the received adapter beside the client's own, in % (50: half and half), mean over modules and seeds. "
        "Outlined: block ends, where clients of all architectures share."
    )
    columns = [Head(str(layer), f"layer {layer}") for layer in range(layers)]
    return Matrix(
        "gates",
        caption,
        _client_heads(clients),
        columns,
        ends,
        {"algorithm": labels},
        ["last"],
        frames,
    )


def by_group(clients: Sequence[ClientSpec]) -> list[ClientSpec]:
    """The clients with those of a group together, groups in the order of their first."""
    groups = list(dict.fromkeys(client.group for client in clients))
    return sorted(clients, key=lambda client: groups.index(client.group))


def _client_heads(clients: Sequence[ClientSpec], short: bool = False) -> list[Head]:
    heads = []
    for index, client in enumerate(clients):
        new = index > 0 and client.group != clients[index - 1].group
        number = str(index + 1)
        name = number if short else f"{number} {client.name}"
        heads.append(
            Head(
                name,
                f"{client.name}, {client.model}"
                + (f", group {client.group}" if client.group else ""),
                client.group,
                new,
            )
        )
    return heads


def _mean_matrix(
    runs: Iterable[RunData], number: int, names: Sequence[str], part: Callable[[Any], Any]
) -> Cells:
    """The mean over runs of a matrix in the order of names; None on the diagonal and for clients that were not there."""
    found = []
    for run in runs:
        if (report := run.relevance.get(number)) is not None:
            found.append(({name: place for place, name in enumerate(report.clients)}, part(report)))
    return [
        None
        if one == other
        else _thousandths(
            _mean(m[at[one]][at[other]] for at, m in found if one in at and other in at)
        )
        for one in names
        for other in names
    ]


def _inside(runs: Iterable[RunData], number: int, clients: Sequence[ClientSpec]) -> str:
    shares = [
        share
        for run in runs
        if number in run.relevance
        and (share := inside_share(run.relevance[number], clients)) is not None
    ]
    if not shares:
        return ""
    mean = statistics.fmean(share for share, _ in shares)
    return f"{100 * mean:.0f} % from the own group (equal weights: {100 * shares[0][1]:.0f} %)"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _thousandths(value: float | None) -> int | None:
    return None if value is None else round(1000 * value)


def _common(names: Sequence[str]) -> int:
    """How many letters up to the last slash all names share, so that tables need not repeat them."""
    first = names[0][: names[0].rfind("/") + 1]
    return len(first) if all(name.startswith(first) for name in names) else 0
