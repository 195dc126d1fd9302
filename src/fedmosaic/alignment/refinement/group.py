"""Refine A and B: on many pseudo-tasks, whatever P one model learns shall do the task in another.

For a task a P is learned in closed form in one model (kernel ridge regression over the first-order effects of its entries), read in
another, and the loss of the choices it makes there is what A and B of the models descend on:

    L = Σ_{a → b} CE(τ · C ⟨φ_b(query), P_a⟩, answers),     P_a = Σ_i α_i φ_a(i),   α = (K_aa + λI)⁻¹ y

over the pairs (a, b) of which one is trained, a = b with less weight so that nobody's own learning suffers. Every step has new
tasks, so that there is no P to get used to. Ours; in no paper. From the closed form of ``start`` 200 steps gained nothing that could
be told on the miniatures, so that none are taken by default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fedmosaic.alignment.refinement.effects import Traces, effects, learn
from fedmosaic.alignment.refinement.pseudo_tasks import (
    CONTRASTS,
    Question,
    Task,
    make_task,
    principal_features,
)
from fedmosaic.config import RefineSettings
from fedmosaic.seeding import rng

Step = Callable[[int, int], None]
SHARPNESS = 6.0
"""τ at the start: what turns effects, which aim at one, into logits."""


@dataclass
class Participant:
    """A model in the refinement.

    Attributes:
        traces: what it does on each question. subspaces: its A and B, float32. trained: they are to change.
    """

    traces: Sequence[Traces]
    subspaces: dict[str, Tensor]
    trained: bool = True
    features: list[list[Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The first block hardly knows the picture yet.
        self.features = [
            [principal_features(x) for x in list(trace.last.values())[1:]] for trace in self.traces
        ]


def refine(
    models: Sequence[Participant],
    questions: Sequence[Question],
    settings: RefineSettings,
    seed: int,
    step: Step,
) -> None:
    """Train A and B of those models that are ``trained``, in place.

    Args:
        step: called with the number of steps done, and of all.
    """
    learned = [
        value.requires_grad_()
        for model in models
        if model.trained
        for value in model.subspaces.values()
    ]
    sharpness = torch.tensor(SHARPNESS, requires_grad=True)
    rates = [settings.lr * float(value.detach().square().mean().sqrt()) for value in learned] + [
        0.05
    ]
    groups = [
        {"params": [value], "lr": rate}
        for value, rate in zip([*learned, sharpness], rates, strict=True)
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    for number in range(settings.steps):
        draw = rng("refinement", seed, number)
        warm = min(1.0, (number + 1) / 20)
        factor = warm * (0.02 + 0.49 * (1 + math.cos(math.pi * number / settings.steps)))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = factor * rate
        loss = torch.zeros(())
        for index in draw.permutation(len(questions))[: settings.batch].tolist():
            loss = (
                loss
                + _loss(models, questions[index], index, settings, draw, sharpness) / settings.batch
            )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 5.0)
        optimiser.step()
        step(number + 1, settings.steps)
    for value in learned:
        value.requires_grad_(False)


def _loss(
    models: Sequence[Participant],
    question: Question,
    index: int,
    settings: RefineSettings,
    draw: np.random.Generator,
    sharpness: Tensor,
) -> Tensor:
    kernels = _kernels(models, index)
    features = [feature for model in models for feature in model.features[index]]
    total, count = torch.zeros(()), 0
    for _ in range(settings.tasks):
        task = make_task(question, features, settings.support, draw)
        ridge = float(np.exp(draw.uniform(np.log(settings.ridge[0]), np.log(settings.ridge[1]))))
        if task is None:
            continue
        for (a, b), logits in transplanted(kernels, task, ridge).items():
            if models[a].trained or models[b].trained:
                loss = torch.nn.functional.cross_entropy(
                    sharpness * logits, task.answers[task.query]
                )
                total = total + loss * (settings.own if a == b else 1.0)
        count += 1
    return total / max(count, 1)


Kernels = Mapping[tuple[int, int], Tensor]
"""``[b, a]`` for a ≤ b: ⟨φ_b, φ_a⟩ over the examples of a question, [n, 2, n, 2]."""


def _kernels(models: Sequence[Participant], index: int) -> Kernels:
    found = [effects(model.traces[index], model.subspaces) for model in models]
    flat = [phi.flatten(0, 1) for phi in found]
    size = len(found[0])
    return {
        (b, a): (flat[b] @ flat[a].t()).view(size, 2, size, 2)
        for b in range(len(models))
        for a in range(b + 1)
    }


def transplanted(kernels: Kernels, task: Task, ridge: float) -> dict[tuple[int, int], Tensor]:
    """For every pair (a, b) the logits [query, 3] in model b under the P that model a learns from the task's support."""
    count = 1 + max(b for b, _ in kernels)
    support, query = task.support, task.query
    found = {}
    for a in range(count):
        alpha = learn(kernels[a, a][support][:, :, support], task.targets, ridge)
        for b in range(count):
            kernel = kernels[b, a] if b >= a else kernels[a, b].permute(2, 3, 0, 1)
            seen = kernel[query][:, :, support].reshape(2 * len(query), -1)
            found[a, b] = (seen @ alpha).view(-1, 2) @ CONTRASTS.to(alpha)
    return found


@torch.no_grad()
def judge(
    models: Sequence[Participant],
    questions: Sequence[Question],
    settings: RefineSettings,
    seed: int,
) -> dict[tuple[int, int], float]:
    """For every pair (a, b) how often a P learned in a makes b choose right, over tasks on these questions; chance is ⅓."""
    right: dict[tuple[int, int], int] = {}
    asked = 0
    for index, question in enumerate(questions):
        draw = rng("refinement", "judge", seed, index)
        kernels = _kernels(models, index)
        # The first model's features alone, so that all are judged by the same tasks.
        for _ in range(settings.tasks):
            task = make_task(question, models[0].features[index], settings.support, draw)
            if task is None:
                continue
            asked += len(task.query)
            for pair, logits in transplanted(kernels, task, 1.0).items():
                hits = int((logits.argmax(1) == task.answers[task.query]).sum())
                right[pair] = right.get(pair, 0) + hits
    return {pair: hits / max(asked, 1) for pair, hits in right.items()}
