"""Summarise a run from the lines of its metrics file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.algorithms import algorithm_class, make_algorithm
from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Record, summarise
from fedmosaic.federation.privacy_statement import (
    noise_is_secret,
    privacy_statement,
    prototypes_sent,
    signatures_sent,
)

Line = Mapping[str, Any]


def summary_of(settings: RunSettings, lines: Sequence[Line]) -> dict[str, Any]:
    """Return the figures of a run.

    Args:
        settings: the run.
        lines: the lines of its metrics file.

    Returns:
        ``{"self": {"last", "auc"}, "others": {"last", "auc", …}, "clients", "bytes", …}``; see
        :func:`fedmosaic.evaluation.summarise` for the definitions. ``groups`` lists the groups of
        clients, empty if the scenario has none. ``also`` holds ``self``, ``others`` and ``clients``
        of other views and of evaluations before local training. ``memory`` is the most that a
        process with clients held, in bytes. Some runs have more parts, see :func:`_special`.
    """
    scores = [Record.from_json(line) for line in lines if line["kind"] == "score"]
    rounds = [line for line in lines if line["kind"] == "round"]
    turns = [line for line in lines if line["kind"] == "client"]
    scenario = settings.scenario
    views = algorithm_class(settings.algorithm).all_views()
    view = next((v for v in scenario.evaluation.views if v in views), "mixed")
    return {
        "scenario": settings.name,
        "algorithm": settings.algorithm,
        "seed": settings.seed,
        "evaluation": {
            "choice": scenario.evaluation.method,
            "stage": "after",
            "view": view,
            "metrics": sorted({record.metric for record in scores}),
        },
        "groups": sorted({client.group for client in scenario.clients} - {""}),
        "rounds": {"done": len(rounds), "of": scenario.rounds},
        **summarise(scores, scenario.clients, view=view),
        "also": _also(settings, scores, view),
        **_answered(scores, view),
        "steps": make_algorithm(settings.algorithm, scenario, settings.seed).steps,
        "flops": _flops(rounds, turns),
        "refused": sum(len(line["refused"]) for line in rounds),
        "bytes": {way: sum(line["bytes"][way] for line in rounds) for way in ("up", "down")},
        "seconds": {
            "total": _seconds(rounds, "total"),
            "train": _seconds(turns, "train"),
            "evaluate": _seconds(turns, "evaluate"),
            "server": _seconds(rounds, "server"),
            "checkpoint": _seconds(rounds, "checkpoint"),
        },
        **_special(settings, lines, turns),
        "memory": max((line["memory"] for line in turns if "memory" in line), default=0),
    }


def _special(settings: RunSettings, lines: Sequence[Line], turns: Sequence[Line]) -> dict[str, Any]:
    """Return the parts of the summary that only some runs have.

    ``data_changes``: after how many rounds the data changed, and which files. ``privacy``: what
    clips and noise guarantee, see :func:`privacy_statement`. ``defences``: in how many
    rounds an update was clipped or refused, by client.
    """
    deployed = settings.deployed is not None
    algorithm = make_algorithm(settings.algorithm, settings.scenario, settings.seed)
    sent = signatures_sent(lines, deployed=deployed)
    published = prototypes_sent(lines, algorithm, deployed=deployed)
    secret = noise_is_secret(turns)
    parts = {
        "data_changes": _data_changes(lines),
        "privacy": privacy_statement(settings, sent, published, secret=secret, exact=not deployed),
        "defences": _interventions(lines),
    }
    return {name: part for name, part in parts.items() if part}


def _interventions(lines: Sequence[Line]) -> dict[str, dict[str, int]]:
    """Return in how many rounds the defences clipped or refused a client's update."""
    counts: dict[str, dict[str, int]] = {}
    for line in lines:
        for what in ("clipped", "refused"):
            for client in line.get("defences", {}).get(what, ()):
                found = counts.setdefault(client, {"clipped": 0, "refused": 0})
                found[what] += 1
    return dict(sorted(counts.items()))


def _data_changes(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the changes of the data that were accepted during the run."""
    return [
        {key: line[key] for key in ("round", "changes")} for line in lines if line["kind"] == "data"
    ]


def _answered(scores: Sequence[Record], view: str) -> dict[str, dict[str, int]]:
    """Return how many inputs each model answered in the last evaluation of a view that routes.

    ``{"answered_by": {"own": n, "expert": n, "global": n, …}}``: all experts count together. Empty
    for a view that does not route.
    """
    routed = [record for record in scores if record.view == view and record.routes]
    last = max((record.round for record in routed), default=0)
    counts: dict[str, int] = {}
    for record in routed:
        for name, count in record.routes.items() if record.round == last else ():
            kind = name.split(" ")[0]
            counts[kind] = counts.get(kind, 0) + count
    return {"answered_by": dict(sorted(counts.items()))} if counts else {}


def _also(settings: RunSettings, scores: Sequence[Record], view: str) -> dict[str, Any]:
    """Return Self, Others and the clients' figures of every other evaluated view and stage."""
    kinds = sorted({(record.view, record.stage) for record in scores} - {(view, "after")})
    found: dict[str, Any] = {}
    for other, stage in kinds:
        figures = summarise(scores, settings.scenario.clients, view=other, stage=stage)
        found[f"{other}, {stage}"] = {part: figures[part] for part in ("self", "others", "clients")}
    return found


def _seconds(lines: Sequence[Line], part: str) -> float:
    return float(sum(line["seconds"].get(part, 0.0) for line in lines))


def _flops(rounds: Sequence[Line], turns: Sequence[Line]) -> dict[str, float] | None:
    """Return the operations of the counted round: mean over clients, and of the server.

    Evaluation is not counted. None if nothing was counted.
    """
    local = [turn["flops"]["total"] for turn in turns if "flops" in turn]
    server = [line["flops"]["server"] for line in rounds if "flops" in line]
    if not local or not server:
        return None
    return {"client_round": math.fsum(local) / len(local), "server_round": server[0]}
