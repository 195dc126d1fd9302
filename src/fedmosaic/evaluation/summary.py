"""Summarise the records of a run: Self and Others, A_last and A_AUC, by client and by task.

Definitions (arXiv 2506.11024, section 5; the AUC as in its tables):

    Self_i   = mean over client i's own tasks
    Others_i = mean over the tasks of all other clients that are not its own
    A_last   = value after the last round
    A_AUC    = area under the value over the rounds, divided by their span

Every task weighs the same within a client, and every client the same in the mean. A task that
several clients have is own for each of them. In-group tasks are those of other clients of the same
group, out-group tasks those of other groups. Unseen tasks are those that no client has. The area is
by the trapezoid rule, and begins at round 0 with the value of the first evaluated round. With
evaluations at equal distances ``A_AUC`` is nearly their mean.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.config import ClientSpec
from fedmosaic.evaluation.records import Record

Rounds = dict[int, float]


def summarise(
    records: Sequence[Record],
    clients: Sequence[ClientSpec],
    *,
    view: str = "mixed",
    stage: str = "after",
) -> dict[str, Any]:
    """Return the figures of a run.

    Args:
        records: All measurements; those of another view or stage are left out.
        clients: The clients with their tasks and groups.
        view: Which of the clients' models.
        stage: ``before`` or ``after`` local training.

    Returns:
        The figures by ``self``, ``others`` and ``unseen``, by ``clients`` and by ``tasks``. Each
        has ``last`` and ``auc``; the overall ones also have ``std`` and ``worst`` of the last value
        over clients. ``others`` also has ``in_group`` and ``out_group`` with figures of their own.
        A figure that was not measured is None. ``unseen`` is missing without unseen tasks.
    """
    scores: dict[str, dict[str, Rounds]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        if record.view == view and record.stage == stage:
            scores[record.client][record.task][record.round] = record.value
    groups: dict[str, set[str]] = defaultdict(set)
    for client in clients:
        for spec in client.tasks:
            groups[spec.name].add(client.group)
    per_client = {client.name: _client(client, groups, scores[client.name]) for client in clients}
    parts: dict[str, Any] = {}
    for part in ("self", "others", "in_group", "out_group", "unseen"):
        parts[part] = _overall([_part(per_client[client.name], part) for client in clients])
    return {
        "self": parts["self"],
        "others": {
            **parts["others"],
            "in_group": parts["in_group"],
            "out_group": parts["out_group"],
        },
        **({"unseen": parts["unseen"]} if parts["unseen"]["last"] is not None else {}),
        "clients": per_client,
        "tasks": _tasks(clients, scores),
    }


def _client(
    client: ClientSpec, groups: Mapping[str, set[str]], scores: Mapping[str, Rounds]
) -> dict[str, Any]:
    own = {spec.name for spec in client.tasks}
    others = {task for task in scores if task in groups} - own
    inside = {task for task in others if client.group in groups[task]}
    outside = others - inside
    unseen = set(scores) - own - inside - outside
    return {
        "model": client.model,
        "group": client.group,
        "self": _figures([scores[task] for task in sorted(own) if task in scores]),
        "others": {
            **_figures([scores[task] for task in sorted(inside | outside) if task in scores]),
            "in_group": _figures([scores[task] for task in sorted(inside) if task in scores]),
            "out_group": _figures([scores[task] for task in sorted(outside) if task in scores]),
        },
        "unseen": _figures([scores[task] for task in sorted(unseen)]),
        "tasks": {task: _last(rounds) for task, rounds in sorted(scores.items())},
    }


def _part(client: Mapping[str, Any], part: str) -> Mapping[str, float | None]:
    found: Mapping[str, float | None] = client[part] if part in client else client["others"][part]
    return found


def _figures(curves: Sequence[Rounds]) -> dict[str, float | None]:
    """Return A_last and A_AUC of the mean over tasks; None without measurements."""
    if not curves:
        return {"last": None, "auc": None}
    rounds = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not rounds:
        return {"last": None, "auc": None}
    means = {
        number: math.fsum(curve[number] for curve in curves) / len(curves) for number in rounds
    }
    return {"last": means[rounds[-1]], "auc": area(means)}


def area(curve: Mapping[int, float]) -> float:
    """Return the trapezoid area under a curve from round 0 to its last point, over that span."""
    points = sorted(curve.items())
    if points[0][0] > 0:
        points = [(0, points[0][1]), *points]
    span = points[-1][0] - points[0][0]
    if span == 0:
        return points[-1][1]
    pairs = itertools.pairwise(points)
    return math.fsum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs) / span


def _overall(clients: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    last = [value for client in clients if (value := client["last"]) is not None]
    auc = [value for client in clients if (value := client["auc"]) is not None]
    if not last:
        return {"last": None, "auc": None, "std": None, "worst": None}
    mean = math.fsum(last) / len(last)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in last) / len(last))
    return {"last": mean, "auc": math.fsum(auc) / len(auc), "std": std, "worst": min(last)}


def _tasks(
    clients: Sequence[ClientSpec], scores: Mapping[str, Mapping[str, Rounds]]
) -> dict[str, Any]:
    """Return for every task the mean of the last values at its owners and at other clients."""
    measured: dict[str, list[str]] = defaultdict(list)
    for client in clients:
        for task in scores.get(client.name, {}):
            measured[task].append(client.name)
    owners: dict[str, list[str]] = defaultdict(list)
    for client in clients:
        for task in dict.fromkeys(spec.name for spec in client.tasks):
            owners[task].append(client.name)

    def mean(task: str, owned: bool) -> float | None:
        own = set(owners[task])
        among = [name for name in measured[task] if (name in own) == owned]
        return (
            math.fsum(_last(scores[name][task]) for name in among) / len(among) if among else None
        )

    return {
        task: {"owners": owners[task], "self": mean(task, True), "others": mean(task, False)}
        for task in sorted({task for curves in scores.values() for task in curves})
    }


def _last(rounds: Rounds) -> float:
    return rounds[max(rounds)]
