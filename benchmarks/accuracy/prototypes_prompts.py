"""Hold the prompts of clients as features, publish prototypes of them, and route test inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import torch
from torch import Tensor

from fedmosaic.config import RunSettings, Scenario
from fedmosaic.federation.prompts import prompt_features
from fedmosaic.federation.runtime import Runtime
from fedmosaic.relevance.familiarity import Familiarity
from fedmosaic.relevance.privacy import PrivacyMechanism, seeded_noise
from fedmosaic.relevance.prototypes import prototypes
from fedmosaic.relevance.routes import Router
from fedmosaic.seeding import generator

QUANTILE, REACH = 0.99, 1.5  # as `experts` has by default


@dataclass(frozen=True)
class ClientPrompts:
    """Hold features of a client's prompts.

    Attributes:
        name: the client.
        tasks: its tasks.
        train: of its training prompts, [n, f].
        tests: of the test prompts by task, of all clients' tasks, [m, f] each.
    """

    name: str
    tasks: tuple[str, ...]
    train: Tensor
    tests: Mapping[str, Tensor]

    @cached_property
    def known(self) -> Familiarity:
        """Return what the training prompts say of new inputs."""
        return Familiarity.of(self.train, QUANTILE)

    def with_prompts(self, most: int, seed: int) -> ClientPrompts:
        """Return the client as if it had only so many training prompts, drawn by chance."""
        draw = generator(seed, self.name, "few prompts", most)
        places = torch.randperm(len(self.train), generator=draw)[:most]
        return replace(self, train=self.train[places])


def prompts_of(scenario: Scenario) -> list[ClientPrompts]:
    """Return the prompts of a scenario's clients, by its shared model."""
    settings = RunSettings(name="prototypes", algorithm="experts", scenario=scenario)
    runtime = Runtime(settings)
    smallest = min(scenario.models_used, key=runtime.parameter_count)  # what a run chooses
    relevance = scenario.relevance.model_copy(update={"model": smallest})
    changed = scenario.model_copy(update={"relevance": relevance})
    runtime = Runtime(settings.model_copy(update={"scenario": changed}))
    features = prompt_features(runtime)
    every = {spec.name: spec for client in scenario.clients for spec in client.tasks}
    tests = {name: features(runtime.test_set(spec, None)) for name, spec in every.items()}
    return [
        ClientPrompts(
            name=client.name,
            tasks=tuple(spec.name for spec in client.tasks),
            train=torch.cat([features(task.train) for task in runtime.client_tasks(client)]),
            tests=tests,
        )
        for client in scenario.clients
    ]


def centres_of(clients: Sequence[ClientPrompts], count: int, seed: int) -> dict[str, Tensor]:
    """Return the prototypes of all clients before noise, [k, f] each."""
    return {
        one.name: prototypes(one.train, count, generator(seed, one.name, "k-means", count))
        for one in clients
    }


def published(centres: Mapping[str, Tensor], noise: float, *seed: int) -> dict[str, Tensor]:
    """Return prototypes as clients publish them."""
    found = {}
    for name, rows in centres.items():
        hide = PrivacyMechanism("gaussian", noise, math.sqrt(len(rows)))
        found[name] = hide(rows, seeded_noise(generator(*seed, name, "noise", len(rows))))
    return found


def routed(
    clients: Sequence[ClientPrompts], centres: Mapping[str, Tensor], sent: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return the shares of test inputs that go where they should, means over clients and tasks.

    Args:
        clients: all clients.
        centres: their prototypes without noise.
        sent: their prototypes as published.

    Returns:
        ``home``: own tasks' inputs that the client answers itself. ``owner``: other tasks' inputs
        that go to a client that has the task. ``nobody``: other tasks' inputs that go to nobody.
    """
    owners = {task: {c.name for c in clients if task in c.tasks} for task in clients[0].tests}
    shares: dict[str, list[float]] = {"home": [], "owner": [], "nobody": []}
    for client in clients:
        peers = {name: found for name, found in sent.items() if name != client.name}
        router = Router.of(client.known, centres[client.name], peers, QUANTILE, REACH)
        every = iter(router(torch.cat(list(client.tests.values()))))
        for task, inputs in client.tests.items():
            chosen = [next(every) for _ in range(len(inputs))]
            if task in client.tasks:
                shares["home"].append(fmean(name == "" for name in chosen))
                continue
            shares["owner"].append(fmean(name in owners[task] for name in chosen))
            shares["nobody"].append(fmean(name is None for name in chosen))
    return {name: fmean(values) for name, values in shares.items()}
