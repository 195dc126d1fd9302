"""Compute the rows of the transplant ladder from what the models of a job learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.accuracy.transplant import MODELS, directions, load_models
from benchmarks.accuracy.transplant_model import Model, Pair
from benchmarks.accuracy.transplant_moves import (
    FEW,
    LACKING,
    MARGINS,
    OF_CLIENT,
    OWN,
    Ridge,
    accuracy,
    average,
    few_shot,
    masked,
    option_logits,
    refined_group,
    times,
    translated,
)

ADAM: dict[str, Any] = {"rate": 0.01, "moment": "tensor"}
"""What was chosen for refined A and B (results/transplant/chosen.json)."""

WARM: dict[str, Any] = {"steps": 15, "items": FEW}
GRADIENT = 1e6
"""The penalty with which ridge returns the direction of the first gradient step."""
Choice = Mapping[str, Any]
"""Whether P is translated (``forward``), the ``penalty`` of ridge, and the ``scale``."""


def row_name(learner: str, forward: bool, reading: str) -> str:
    """Return the name of a row."""
    return ", ".join([learner, *(["forward"] if forward else []), reading])


class Ladder:
    """Hold the models of a job, what they learned, and what they say without P.

    Attributes:
        models: the three models, with refined A and B.
        seed: seed of training.
        zero: for each model the logits of the options of all test items.
        adam: for each model P, Q by training; own and relabelled.
        ridge: for each model P, Q by ridge; own and relabelled.
    """

    def __init__(
        self,
        pretraining: int,
        tasks: Sequence[str],
        seed: int,
        wanted: Mapping[str, Sequence[tuple[str, float]]],
    ) -> None:
        """Load the models and let them learn the tasks.

        Args:
            pretraining: of the models.
            tasks: names of the tasks.
            seed: seed of data and training.
            wanted: targets and penalties of ridge for ``own``, ``relabelled`` or both.
        """
        self.group = refined_group(pretraining)
        self.models = [Model(backbone, tasks, seed) for backbone in load_models(pretraining)]
        for model, pair in zip(self.models, self.group.pairs, strict=True):
            model.subspaces = pair
        self.seed = seed
        self.zero = [option_logits(model, model.zero()) for model in self.models]
        self.adam = {kind: [m.learn(kind, ADAM, seed) for m in self.models] for kind in wanted}
        self.ridge = {
            kind: [Ridge.learn(model, kind, keys) for model in self.models]
            for kind, keys in wanted.items()
        }
        self._known: dict[Any, Tensor] = {}

    def learned(self, number: int, learner: str, kind: str, key: tuple[str, float]) -> Pair:
        """Return P, Q that a model learned."""
        return self.adam[kind][number] if learner == "adam" else self.ridge[kind][number].pairs[key]

    def moved(self, giver: int, receiver: int, learner: str, kind: str, choice: Choice) -> Pair:
        """Return P, Q of a giver, translated and scaled for a receiver as a choice says."""
        pair = self.learned(giver, learner, kind, (choice.get("targets", OWN), choice["penalty"]))
        if choice.get("forward"):
            pair = translated(self.models[receiver], pair, self.group.maps[giver, receiver])
        return times(pair, choice["scale"])

    def score(
        self, giver: int, receiver: int, learner: str, kind: str, choice: Choice, reading: str
    ) -> list[float]:
        """Return the accuracy of each task with P, Q of a giver."""
        logits = self.logits(giver, receiver, learner, kind, choice)
        return self.read(receiver, logits, reading, choice.get("factor"))

    def logits(self, giver: int, receiver: int, learner: str, kind: str, choice: Choice) -> Tensor:
        """Return f_P of the options in a receiver with P, Q of a giver, computed once."""
        changes = sorted((name, value) for name, value in choice.items() if name != "factor")
        key = (giver, receiver, learner, kind, *changes)
        if key not in self._known:
            pair = self.moved(giver, receiver, learner, kind, choice)
            self._known[key] = option_logits(self.models[receiver], pair)
        return self._known[key]

    def read(
        self, receiver: int, logits: Tensor, reading: str, factor: float | None = None
    ) -> list[float]:
        """Return the accuracy of each task by a receiver's logits."""
        return accuracy(self.models[receiver], logits, self.zero[receiver], reading, factor)

    def with_pair(self, receiver: int, pair: Pair, reading: str) -> list[float]:
        """Return the accuracy of each task with any P, Q."""
        return self.read(receiver, option_logits(self.models[receiver], pair), reading)

    def by_model(self, pairs: Sequence[Pair], reading: str = "plain") -> dict[str, list[float]]:
        """Return the accuracies of each model with P, Q of its own."""
        return {
            name: self.with_pair(number, pairs[number], reading)
            for number, name in enumerate(MODELS)
        }


def lead_rows(ladder: Ladder, chosen: Mapping[str, Choice]) -> dict[str, Any]:
    """Return the accuracies of the other leads; see the module."""
    plain, best = chosen["adam, plain"], chosen["ridge, difference"]
    targets = (LACKING, MARGINS, *OF_CLIENT)
    found: dict[str, dict[str, list[float]]] = {
        name: {} for name in (*targets, "gradient", "mask, adam", "mask, ridge")
    }
    # The gradient has no size of its own; a tiny one is within rounding.
    gradient = {**best, "penalty": GRADIENT, "scale": best["scale"] * GRADIENT}
    for name, giver, receiver in directions():
        of_ridge = (giver, receiver, "ridge", "own")
        few = ladder.ridge["own"][receiver].few
        for of in targets:
            found[of][name] = ladder.score(*of_ridge, {**best, "targets": of}, "difference")
        found["gradient"][name] = ladder.score(*of_ridge, gradient, "difference")
        adam = masked(ladder.moved(giver, receiver, "adam", "own", plain), few)
        found["mask, adam"][name] = ladder.with_pair(receiver, adam, "plain")
        ridge = masked(ladder.moved(*of_ridge, best), few)
        found["mask, ridge"][name] = ladder.with_pair(receiver, ridge, "difference")
    return {**found, **_two_givers(ladder, plain, best)}


def _two_givers(ladder: Ladder, plain: Choice, best: Choice) -> dict[str, Any]:
    """Return the accuracies of each receiver with both givers."""
    found: dict[str, dict[str, list[float]]] = {"sum": {}, "average": {}, "with own": {}}
    for receiver, name in enumerate(MODELS):
        givers = [number for number in range(len(MODELS)) if number != receiver]
        zero = ladder.zero[receiver]
        logits = [ladder.logits(giver, receiver, "ridge", "own", best) for giver in givers]
        total = torch.stack([found - zero for found in logits]).sum(0)
        found["sum"][name] = ladder.read(receiver, total, "plain")
        own, adam = ladder.adam["own"][receiver], [ladder.adam["own"][giver] for giver in givers]
        both = times(average(*adam), plain["scale"])
        found["average"][name] = ladder.with_pair(receiver, both, "plain")
        found["with own"][name] = ladder.with_pair(receiver, average(own, *adam), "plain")
    return found


def few_rows(ladder: Ladder, choice: Choice) -> dict[str, Any]:
    """Return the accuracies of ridge on 16 examples of the receiver, from zero and from a P."""
    found: dict[str, dict[str, list[float]]] = {"ridge, cold": {}, "ridge, warm": {}}
    for receiver, name in enumerate(MODELS):
        few, zero = ladder.ridge["own"][receiver].few, ladder.models[receiver].zero()
        cold = few_shot(few, choice["penalty"], zero)
        found["ridge, cold"][name] = ladder.with_pair(receiver, cold, "difference")
    for name, giver, receiver in directions():
        start = ladder.moved(giver, receiver, "ridge", "own", choice)
        warm = few_shot(ladder.ridge["own"][receiver].few, choice["penalty"], start)
        found["ridge, warm"][name] = ladder.with_pair(receiver, warm, "difference")
    return found


def trained_rows(ladder: Ladder, chosen: Mapping[str, Choice]) -> dict[str, Any]:
    """Return the accuracies of 15 steps on 16 examples of the receiver, from zero and from a P."""
    found: dict[str, dict[str, list[float]]] = {"adam, warm": {}, "adam, warm from ridge": {}}
    cold = [model.learn("own", ADAM, ladder.seed, **WARM) for model in ladder.models]
    for name, giver, receiver in directions():
        for row, learner in zip(found, ("adam", "ridge"), strict=True):
            choice = chosen[row_name(learner, False, "plain")]
            start = ladder.moved(giver, receiver, learner, "own", choice)
            model = ladder.models[receiver]
            pair = model.learn("own", ADAM, ladder.seed, start=start, **WARM)
            found[row][name] = ladder.with_pair(receiver, pair, "plain")
    return {"adam, cold": ladder.by_model(cold), **found}
