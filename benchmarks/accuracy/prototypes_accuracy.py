"""Evaluate a finished run of ``experts`` with other noise on the prototypes, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.accuracy.prototypes_prompts import published
from fedmosaic.algorithms.common.expert_bank import ExpertBank, packed
from fedmosaic.algorithms.common.experts import OWN
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.measure import Test, scores_of_some, tests_of
from fedmosaic.federation.prompts import prompt_features
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess

DRAWS = 3
Key = tuple[float, int]  # noise and number of its draw
NO_EXPERTS: Key = (-1.0, 0)


def rerouted(folder: Path, noises: Sequence[float]) -> dict[str, dict[str, float]]:
    """Return Self and Others by noise; ``own``: every client answers everything itself.

    Args:
        folder: a finished run of ``experts`` with ``routing.noise_std = 0``, so that clients hold
            prototypes without noise.
        noises: σ.

    Raises:
        ValueError: without noise the figures are not those of the run.
    """
    opened, settings = RunFolder.open(folder)
    transport = InProcess(Runtime(settings))
    rounds = settings.scenario.rounds
    transport.load(opened.checkpoints / f"round-{rounds:04d}" / "clients")
    keys: list[Key] = [(noise, draw) for noise in noises for draw in range(DRAWS if noise else 1)]
    found: dict[Key, list[tuple[float, float]]] = {}
    for name in transport.clients:
        for key, scores in _of_client(transport.clients[name], keys, settings.seed).items():
            found.setdefault(key, []).append(scores)
    means = {key: [fmean(column) for column in zip(*v, strict=True)] for key, v in found.items()}
    _check(means[0.0, 0], opened.summary() or {})
    result = {"own": dict(zip(("self", "others"), means.pop(NO_EXPERTS), strict=True))}
    for noise in noises:
        drawn = [value for (other, _), value in means.items() if other == noise]
        both = [fmean(column) for column in zip(*drawn, strict=True)]
        result[f"σ = {noise:g}"] = dict(zip(("self", "others"), both, strict=True))
    return result


def _check(means: Sequence[float], summary: Mapping[str, dict[str, float]]) -> None:
    for side, value in zip(("self", "others"), means, strict=True):
        if abs(value - summary[side]["last"]) > 1e-9:
            raise ValueError(
                f"{side} is {value} without noise, and {summary[side]['last']} in the run"
            )


def _of_client(
    client: LocalClient, keys: Sequence[Key], seed: int
) -> dict[Key, tuple[float, float]]:
    """Return Self and Others of a client by noise and draw, and without any expert."""
    scenario = client.runtime.scenario
    number, items = scenario.rounds - 1, scenario.evaluation.last_items
    tests = tests_of(scenario, client.spec, Instructions(number, False, items=items))
    with client.turn(trains=False):
        routes = {key: _routes(client, tests, key, seed) for key in keys}
        first = next(iter(routes.values()))
        routes[NO_EXPERTS] = [[OWN] * len(of_test) for of_test in first]
        scores = _scores(client, tests, list(routes.values()))
    own = {spec.name for spec in client.spec.tasks}
    result = {}
    for key, chosen in routes.items():
        by_side: dict[bool, list[float]] = {True: [], False: []}
        for place, ((spec, _), names) in enumerate(zip(tests, chosen, strict=True)):
            values = [scores[name, place, row] for row, name in enumerate(names)]
            by_side[spec.name in own].append(fmean(values))
        result[key] = (fmean(by_side[True]), fmean(by_side[False]))
    return result


def _routes(client: LocalClient, tests: Sequence[Test], key: Key, seed: int) -> list[list[str]]:
    """Return for each test the view that answers each item, with noise on the experts."""
    (noise, draw), runtime, before = key, client.runtime, client.state
    bank = ExpertBank(before)
    for name, rows in published(bank.prototypes(), noise, seed, draw).items():
        client.state = client.state | packed(name, {}, rows, bank.same_model(name))
    features = prompt_features(runtime)
    prompts = [features(runtime.test_set(spec, items)) for spec, items in tests]
    chosen = iter(client.algorithm.routes(client.context, "mixed", torch.cat(prompts)))
    client.state = before
    return [[next(chosen) for _ in of_test] for of_test in prompts]


def _scores(
    client: LocalClient, tests: list[Test], routes: Sequence[list[list[str]]]
) -> dict[tuple[str, int, int], float]:
    """Return the score of each item by each view that any of the routes gives it to."""
    needed: dict[str, list[set[int]]] = {}
    for of_tests in routes:
        for place, names in enumerate(of_tests):
            for row, name in enumerate(names):
                needed.setdefault(name, [set() for _ in tests])[place].add(row)
    found = {}
    for view, places in needed.items():
        rows = [sorted(chosen) for chosen in places]
        with client.algorithm.view(client.context, view) as model:
            scores = scores_of_some(client.runtime, client.spec, model, tests, rows)
        for place, (timed, chosen) in enumerate(zip(scores, rows, strict=True)):
            for row, value in zip(chosen, timed.score.values, strict=True):
                found[view, place, row] = value
    return found
