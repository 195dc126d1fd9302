"""Choose the clients of each process and those that train together; say why others do not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from torch import nn

from fedmosaic.algorithms import Algorithm
from fedmosaic.config import ClientSpec
from fedmosaic.errors import FedMosaicError
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import resolve_device

MORE_THAN_EVEN = 1.05
"""Largest load of a worker, for the sake of one architecture, as a multiple of the mean."""

LOOKED_AT = 4
"""Training examples of each task from which the length of a client's texts is judged."""

FIXED = 10
"""Tokens of an example that cost as much as what a step needs whatever its examples."""


def divide(runtime: Runtime, roster: Sequence[str], count: int) -> list[list[str]]:
    """Divide the clients among worker processes, with about as much work for each.

    Clients of one architecture stay together where they can: questions are encoded, and images
    read, once for each architecture of a process. A worker's results wait for those of clients that
    come before, so a large population, whose updates need much memory, is dealt out in turn.

    Args:
        runtime: knows their models and tasks.
        roster: the clients.
        count: number of workers; small clients of one architecture may need fewer.
    """
    if len(roster) > runtime.scenario.clients_in_memory:
        return [list(roster[index::count]) for index in range(count)]
    clients = {client.name: client for client in runtime.scenario.clients}
    models = {name: runtime.architecture(clients[name].model) for name in roster}
    work = {name: work_of(runtime, clients[name]) for name in roster}
    most = MORE_THAN_EVEN * sum(work.values()) / count
    parts: list[list[str]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for name in sorted(roster, key=lambda name: -work[name]):  # the largest first
        alike = {models[name]}
        known = [k for k, part in enumerate(parts) if alike & {models[other] for other in part}]
        fitting = [k for k in known if loads[k] + work[name] <= most]
        chosen = min(fitting or range(count), key=loads.__getitem__)
        parts[chosen].append(name)
        loads[chosen] += work[name]
    return [sorted(part, key=list(roster).index) for part in parts if part]


def work_of(runtime: Runtime, client: ClientSpec) -> float:
    """Return a client's work in a step, compared with that of other clients.

    It grows with its model's parameters, and with the tokens of its examples. Those that its model
    cannot take are reported by the client itself, so they are left out here.
    """
    backbone, lengths = runtime.backbone(client.model), []
    for task in runtime.client_tasks(client):
        for example in islice(task.train, LOOKED_AT):
            with suppress(FedMosaicError):
                lengths.append(len(backbone.encode(example).input_ids))
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    return runtime.parameter_count(client.model) * (FIXED + mean)


def groups_of(
    runtime: Runtime, names: Sequence[str], instructions: Mapping[str, Instructions]
) -> list[list[str]]:
    """Divide clients into groups that train together, in the order of their first members.

    Members of a group have one architecture and one rank, train in this round, and are at most
    ``train.together``. Every other client is a group by itself.

    Args:
        runtime: what the clients share.
        names: the clients, in roster order.
        instructions: what each of them is asked for.
    """
    most = runtime.scenario.train.together
    if most == 1:
        return [[name] for name in names]
    models = {client.name: client.model for client in runtime.scenario.clients}
    found: list[list[str]] = []
    unfilled: dict[Any, list[str]] = {}
    for name in names:
        asked = instructions[name]
        if not asked.train or obstacle(runtime, models[name]):
            found.append([name])
            continue
        key = (runtime.architecture(models[name]), runtime.scenario.rank_of(name), asked.steps)
        if key not in unfilled or len(unfilled[key]) == most:
            unfilled[key] = []
            found.append(unfilled[key])
        unfilled[key].append(name)
    return found


def warn_of_obstacles(runtime: Runtime) -> None:
    """Say which clients train one by one although the settings ask for more."""
    if runtime.scenario.train.together > 1:
        reasons = [obstacle(runtime, model) for model in runtime.scenario.models_used]
        for reason in dict.fromkeys(filter(None, reasons)):
            warnings.warn(
                f"train.together={runtime.scenario.train.together}: {reason}, so its clients train "
                "one by one",
                stacklevel=2,
            )


def obstacle(runtime: Runtime, model: str) -> str:
    """Return why clients of a model cannot train together; empty if they can."""
    algorithm, scenario = runtime.algorithm, runtime.scenario
    if type(algorithm).train is not Algorithm.train:
        return f"{algorithm.name} has a local training of its own"
    if algorithm.shares_subspaces and scenario.adapter.gate == "input":
        return f"adapter.gate=input mixes the adapters of {model} by the input"
    if scenario.adapter.dropout and resolve_device(scenario.models.device).type != "cpu":
        return f"only a CPU can drop the same units (adapter.dropout) of {model} as one by one"
    if scenario.adapter.dropout and scenario.models.gradient_checkpointing:
        return f"models.gradient_checkpointing would drop other units (adapter.dropout) of {model}"
    drops: bool = runtime.cached(
        f"dropout of {model}", lambda: _drops_units(runtime.backbone(model))
    )
    return f"{model} has dropout of its own" if drops else ""


def _drops_units(backbone: Backbone) -> bool:
    """Return whether a base model drops units in training, outside of its vision tower."""
    towers = backbone.images.modules if backbone.images else []
    frozen = {module for tower in towers for module in tower.modules()}
    return any(
        isinstance(value, float) and value > 0
        for module in backbone.model.modules()
        if module not in frozen
        for name, value in vars(module).items()
        if "drop" in name or (name == "p" and isinstance(module, nn.modules.dropout._DropoutNd))
    )
