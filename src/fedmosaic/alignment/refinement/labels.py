"""Draw right answers for a pseudo-task: a random feature of the examples decides them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedmosaic.alignment.refinement.pseudo_tasks import CONTRASTS, OPTIONS, PseudoTask


@dataclass(frozen=True)
class PseudoLabels:
    """Hold the right options of a pseudo-task, for the examples that offer them.

    Attributes:
        support: indices of the examples to learn from.
        query: indices of the examples to test on.
        answers: int64 [n], the position of the right option among the three of each example;
            arbitrary for examples in neither part.
    """

    support: Tensor
    query: Tensor
    answers: Tensor

    @property
    def targets(self) -> Tensor:
        """Return the target contrasts of the support [support, 2]: of one-hot answers, centred."""
        return (
            torch.nn.functional.one_hot(self.answers[self.support], OPTIONS).sub(1 / OPTIONS)
            @ CONTRASTS.t()
        )


def draw_labels(
    task: PseudoTask, features: Sequence[Tensor], size: int, draw: np.random.Generator
) -> PseudoLabels | None:
    """Label a pseudo-task by a random feature of its examples.

    The feature cuts the examples into as many clusters as the pseudo-task has words; the words are
    assigned to the clusters in random order.

    Args:
        task: the pseudo-task.
        features: matrices [n, m] of which one is drawn, with columns of falling importance (see
            :func:`principal_features`).
        size: most examples to learn from.
        draw: random numbers.

    Returns:
        None if too few examples offer their answer.
    """
    chosen = features[int(draw.integers(len(features)))]
    importance = chosen.square().sum(0).pow(0.25).double().numpy()
    importance = importance / importance.sum()
    for _ in range(10):
        columns = draw.choice(len(importance), size=int(draw.integers(1, 4)), p=importance)
        clusters = _clusters(
            chosen[:, columns] / chosen[:, columns].norm(dim=0).clamp_min(1e-9), task.words, draw
        )
        if int(torch.bincount(clusters, minlength=task.words).min()) >= 0.08 * len(clusters):
            break
    word = torch.from_numpy(draw.permutation(task.words))[clusters]
    offered = task.options == word[:, None]
    usable = offered.any(1).nonzero()[:, 0]
    if len(usable) < 3 * OPTIONS:
        return None
    usable = usable[torch.from_numpy(draw.permutation(len(usable)))]
    cut = min(size, len(usable) * 2 // 3)
    return PseudoLabels(usable[:cut], usable[cut:], offered.int().argmax(1))


def principal_features(rows: Tensor, count: int = 24) -> Tensor:
    """Return the leading principal components of ``rows`` [n, d], centred.

    Returns:
        [n, at most count], falling in size.
    """
    u, s, _ = torch.linalg.svd(rows.float() - rows.float().mean(0), full_matrices=False)
    components: Tensor = (u * s)[:, :count]
    return components


def _clusters(points: Tensor, count: int, draw: np.random.Generator) -> Tensor:
    """Cluster points by a few steps of k-means from random centres; int64 [n]."""
    centres = points[torch.from_numpy(draw.permutation(len(points))[:count])]
    for _ in range(3):
        nearest: Tensor = torch.cdist(points, centres).argmin(1)
        parts = [points[nearest == k] for k in range(count)]
        centres = torch.stack([p.mean(0) if len(p) else centres[k] for k, p in enumerate(parts)])
    nearest = torch.cdist(points, centres).argmin(1)
    return nearest
