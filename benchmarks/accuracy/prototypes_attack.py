"""Guess from published prototypes which prompts a client has trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from benchmarks.accuracy.prototypes_prompts import ClientPrompts
from fedmosaic.relevance.familiarity import distances

FALSE_POSITIVES = 0.01


def attacked(clients: Sequence[ClientPrompts], sent: Mapping[str, Tensor]) -> dict[str, float]:
    """Return how well an attacker tells training prompts from test prompts of the same tasks.

    Args:
        clients: the clients.
        sent: their prototypes as published, [k, f].

    Returns:
        ``auc`` and ``tpr`` (at 1 % false positives), means over clients.
    """
    scores = []
    for client in clients:
        others = torch.cat([client.tests[task] for task in client.tasks])
        inside, outside = (nearness(rows, sent[client.name]) for rows in (client.train, others))
        scores.append((auc(inside, outside), true_positives(inside, outside)))
    return {"auc": fmean(one for one, _ in scores), "tpr": fmean(one for _, one in scores)}


def nearness(prompts: Tensor, published: Tensor) -> Tensor:
    """Return minus the distance of each prompt to the nearest prototype, [n]."""
    return -distances(prompts.double(), published.double()).min(1).values


def auc(members: Tensor, others: Tensor) -> float:
    """Return the share of pairs in which the member has the higher score; ties count half."""
    higher = (members[:, None] > others[None]).double().mean()
    return float(higher + (members[:, None] == others[None]).double().mean() / 2)


def true_positives(members: Tensor, others: Tensor, rate: float = FALSE_POSITIVES) -> float:
    """Return the share of members above a limit that at most ``rate`` of the others pass."""
    passed = int(rate * len(others))
    limit = others.sort(descending=True).values[passed]
    return float((members > limit).double().mean())
