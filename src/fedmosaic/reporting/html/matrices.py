"""Build the matrices of a section: relevance by round, scores by task, gates by layer."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fedmosaic.config import ClientSpec
from fedmosaic.reporting.html.matrix import (
    Heading,
    Matrix,
    by_group,
    client_headings,
    known_mean,
    thousandths,
)
from fedmosaic.reporting.html.peers import own_group_share
from fedmosaic.reporting.html.run_data import RoundRelevance, RunData
from fedmosaic.reporting.html.sections import Section
from fedmosaic.reporting.measures import opening

# The most numbers of one matrix on a page. Above it, single seeds are left out first, then rounds.
MAX_CELLS = 500_000
Cells = list[int | None]
# What the relevance matrix can show, and how to read it from a round.
RELEVANCE: Mapping[str, Callable[[RoundRelevance], Sequence[Sequence[float]]]] = {
    "weights, %": lambda found: found.weights,
    "similarity of signatures, cosine × 100": lambda found: found.similarity,
}


def relevance_matrix(section: Section) -> Matrix | None:
    """Show how much each client received from each other one, round by round.

    Returns:
        The matrix; None if no run reports relevance, or only the largest weights of many clients.
    """
    labels = [
        label
        for label, runs in section.runs.items()
        if any(found.peers is None for run in runs.values() for found in run.relevance.values())
    ]
    if not labels:
        return None
    clients = by_group(section.scenario.clients)
    rounds, seeds, complete = _frames_that_fit(section, labels)
    several = len(section.seeds) > 1
    everything = "mean over seeds" if several else f"seed {section.seeds[0]}"
    subsets: dict[str, Sequence[int] | None] = {everything: None}
    subsets |= {f"seed {seed}": [seed] for seed in seeds}
    frames = {}
    combinations = itertools.product(
        enumerate(labels), enumerate(RELEVANCE.values()), enumerate(subsets.values())
    )
    for (a, label), (k, part), (s, subset) in combinations:
        runs = [
            run for seed, run in section.runs[label].items() if subset is None or seed in subset
        ]
        frames[f"{a}.{k}.{s}"] = _relevance_frames(runs, rounds, clients, part)
    caption = (
        "A row shows where a client's download came from: the share of each other client in it."
    )
    caption += " Outlined: clients of the same group." if section.has_groups else ""
    caption += "" if complete else " Some rounds and single seeds are left out to save space."
    return Matrix(
        "relevance",
        caption,
        client_headings(clients),
        client_headings(clients, short=True),
        _same_group(clients) if section.has_groups else frozenset(),
        {"algorithm": labels, "show": list(RELEVANCE), "seed": list(subsets)},
        [f"round {number + 1}" for number in rounds],
        frames,
    )


def _frames_that_fit(
    section: Section, labels: Sequence[str]
) -> tuple[list[int], Sequence[int], bool]:
    """Choose rounds and single seeds for the relevance matrix.

    Returns:
        Rounds, seeds, and whether these are all.
    """
    rounds = sorted(
        {n for label in labels for run in section.runs[label].values() for n in run.relevance}
    )
    seeds = section.seeds if len(section.seeds) > 1 else []
    cells = len(RELEVANCE) * len(labels) * len(section.scenario.clients) ** 2
    if cells * len(rounds) * (1 + len(seeds)) <= MAX_CELLS:
        return rounds, seeds, True
    step = -(-cells * len(rounds) // MAX_CELLS)
    return sorted({*rounds[::step], rounds[-1]}), [], False


def _relevance_frames(
    runs: Sequence[RunData],
    rounds: Sequence[int],
    clients: Sequence[ClientSpec],
    part: Callable[[RoundRelevance], Sequence[Sequence[float]]],
) -> dict[str, Any]:
    names = [client.name for client in clients]
    cells = [_mean_matrix(runs, number, names, part) for number in rounds]
    largest = max(
        (abs(value) for frame in cells for value in frame if value is not None), default=1
    )
    info = [_own_group_text(runs, number, clients) for number in rounds]
    return {"scale": largest or 1, "cells": cells, "info": info}


def _mean_matrix(
    runs: Iterable[RunData],
    number: int,
    names: Sequence[str],
    part: Callable[[RoundRelevance], Sequence[Sequence[float]]],
) -> Cells:
    """Return the mean over runs of a matrix, clients in the order of names.

    Cells are None on the diagonal and for clients that did not take part in the round.
    """
    found = []
    for run in runs:
        if (report := run.relevance.get(number)) is not None and report.peers is None:
            found.append(({name: place for place, name in enumerate(report.clients)}, part(report)))
    return [
        None
        if one == other
        else thousandths(
            known_mean(m[at[one]][at[other]] for at, m in found if one in at and other in at)
        )
        for one in names
        for other in names
    ]


def _own_group_text(runs: Iterable[RunData], number: int, clients: Sequence[ClientSpec]) -> str:
    """Say how much came from the own group; empty without groups."""
    shares = [
        share
        for run in runs
        if number in run.relevance
        and (share := own_group_share(run.relevance[number], clients)) is not None
    ]
    if not shares:
        return ""
    mean = statistics.fmean(share for share, _ in shares)
    return f"{100 * mean:.0f} % from the own group (equal weights: {100 * shares[0][1]:.0f} %)"


def _same_group(clients: Sequence[ClientSpec]) -> frozenset[tuple[int, int]]:
    pairs = itertools.permutations(range(len(clients)), 2)
    return frozenset(
        (i, j) for i, j in pairs if clients[i].group and clients[i].group == clients[j].group
    )


def task_matrix(section: Section) -> Matrix | None:
    """Show the score of each client on each task after the last round.

    Returns:
        The matrix; None if nothing was measured, or on more tasks of more clients than a page shows
        (``MAX_CELLS``).
    """
    clients = by_group(section.scenario.clients)
    own = {client.name: [task.name for task in client.tasks] for client in clients}
    measured = {
        task
        for runs in section.runs.values()
        for run in runs.values()
        for found in run.summary["clients"].values()
        for task in found["tasks"]
    }
    if not measured or len(measured) * len(clients) > MAX_CELLS:
        return None
    order = dict.fromkeys(task for tasks in own.values() for task in tasks if task in measured)
    tasks = [*order, *sorted(measured - order.keys())]
    labels = sorted(
        section.runs, key=lambda label: (label != "fedmosaic", label == section.reference)
    )
    cells = {label: _task_cells(section.runs[label].values(), tasks, clients) for label in labels}
    reference = section.reference if len(labels) > 1 else None
    shows = [f"{section.measure}, %"]
    if reference:
        shows.append(f"difference to local training ({reference}), points")
    outlined = frozenset(
        (i, j)
        for i, task in enumerate(tasks)
        for j, client in enumerate(clients)
        if task in own[client.name]
    )
    return Matrix(
        "tasks",
        f"{opening(section.explained_measure)} of each client (column) on each task (row) "
        "after the last round"
        + (", mean over seeds" if len(section.seeds) > 1 else "")
        + ". Outlined: a client's own tasks.",
        _task_headings(tasks, clients),
        client_headings(clients, short=True),
        outlined,
        {"algorithm": labels, "show": shows},
        ["last"],
        _task_frames(cells, reference),
    )


def _task_frames(cells: Mapping[str, Cells], reference: str | None) -> dict[str, dict[str, Any]]:
    """Return the frames of accuracies by label, and of differences to the reference if any."""
    frames: dict[str, dict[str, Any]] = {}
    for index, values in enumerate(cells.values()):
        frames[f"{index}.0"] = {"scale": 1000, "cells": [values], "info": []}
        if reference:
            pairs = zip(values, cells[reference], strict=True)
            gaps = [None if x is None or y is None else x - y for x, y in pairs]
            frames[f"{index}.1"] = {"scale": 400, "cells": [gaps], "info": []}
    return frames


def _task_cells(
    runs: Iterable[RunData], tasks: Sequence[str], clients: Sequence[ClientSpec]
) -> Cells:
    scores = [run.summary["clients"] for run in runs]
    return [
        thousandths(known_mean(found[client.name]["tasks"].get(task) for found in scores))
        for task in tasks
        for client in clients
    ]


def _task_headings(tasks: Sequence[str], clients: Sequence[ClientSpec]) -> list[Heading]:
    """Return a heading for each task, without the folder that all names share."""
    group = {task.name: client.group for client in reversed(clients) for task in client.tasks}
    folder = tasks[0][: tasks[0].rfind("/") + 1]
    shared = len(folder) if all(task.startswith(folder) for task in tasks) else 0
    headings: list[Heading] = []
    for index, task in enumerate(tasks):
        kind = group.get(task, "unseen")
        headings.append(
            Heading(task[shared:], task, kind, index > 0 and kind != headings[-1].group)
        )
    return headings


def gate_matrix(section: Section) -> Matrix | None:
    """Show the share of the global branch in each layer of each client.

    Returns:
        The matrix; None if no algorithm has gates.
    """
    labels = [
        label for label, runs in section.runs.items() if any(run.gates for run in runs.values())
    ]
    if not labels:
        return None
    clients = by_group(section.scenario.clients)
    runs = [run for label in labels for run in section.runs[label].values()]
    layers = 1 + max(layer for run in runs for found in run.gates.values() for layer in found)
    frames = {}
    for index, label in enumerate(labels):
        gates = [run.gates for run in section.runs[label].values()]
        cells = [
            thousandths(
                known_mean(
                    found[c.name][layer].share for found in gates if layer in found.get(c.name, {})
                )
            )
            for c in clients
            for layer in range(layers)
        ]
        frames[str(index)] = {"scale": 1000, "cells": [cells], "info": []}
    first = next(run.gates for run in runs if run.gates)
    block_ends = frozenset(
        (row, layer)
        for row, client in enumerate(clients)
        for layer, gate in first.get(client.name, {}).items()
        if gate.block_end
    )
    return Matrix(
        "gates",
        "The gate g = σ(β): the share of the global branch in %, the rest is the local branch; "
        f"mean over modules{' and seeds' if len(section.seeds) > 1 else ''}. "
        "Outlined: block ends, whose adapters all architectures share.",
        client_headings(clients),
        [Heading(str(layer), f"layer {layer}") for layer in range(layers)],
        block_ends,
        {"algorithm": labels},
        ["last"],
        frames,
    )
