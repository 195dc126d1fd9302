"""Test how well a P that one model learns from a pseudo-task works in another model.

P is learned in closed form, by kernel ridge regression over the first-order effects of its entries,
and used in the other model through the effects there. Ours; in no paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedmosaic.alignment.common import Subspaces
from fedmosaic.alignment.refinement.effects import effects, learn
from fedmosaic.alignment.refinement.labels import PseudoLabels, draw_labels, principal_features
from fedmosaic.alignment.refinement.pseudo_tasks import CONTRASTS, PseudoTask
from fedmosaic.alignment.refinement.traces import Traces
from fedmosaic.seeding import rng

LABELLINGS, SUPPORT, RIDGE = 8, 48, 1.0
"""Labellings of each pseudo-task, most examples to learn from, and the penalty of learning."""

Kernels = Mapping[tuple[int, int], Tensor]
"""``[b, a]`` for a ≤ b: ⟨φ_b, φ_a⟩ over the examples of a pseudo-task, [n, 2, n, 2]."""


@torch.no_grad()
def transplant_accuracy(
    pairs: Sequence[Subspaces],
    traces: Sequence[Sequence[Traces]],
    tasks: Sequence[PseudoTask],
    seed: int,
) -> dict[tuple[int, int], float]:
    """Measure, for every pair (a, b) of models, how often a P learned in a is right in b.

    Args:
        pairs: A and B of each model.
        traces: for each model its traces on the pseudo-tasks.
        tasks: held-out pseudo-tasks.
        seed: seed of the labellings.

    Returns:
        for each pair the share of right choices; chance is 1/3.
    """
    right: dict[tuple[int, int], int] = {}
    count = 0
    for index, task in enumerate(tasks):
        draw = rng("refinement", "judge", seed, index)  # names the draw
        kernels = _kernels(pairs, [own[index] for own in traces])
        # All models are tested on the same labellings, by features of the first model alone.
        features = _features(traces[0][index])
        for _ in range(LABELLINGS):
            labels = draw_labels(task, features, SUPPORT, draw)
            if labels is None:
                continue
            count += len(labels.query)
            for pair, logits in transplanted(kernels, labels, RIDGE).items():
                hits = int((logits.argmax(1) == labels.answers[labels.query]).sum())
                right[pair] = right.get(pair, 0) + hits
    return {pair: hits / max(count, 1) for pair, hits in right.items()}


def transplanted(
    kernels: Kernels, labels: PseudoLabels, ridge: float
) -> dict[tuple[int, int], Tensor]:
    """Compute, for every pair (a, b), the logits in model b of the P that model a learns.

    Returns:
        logits of the options [query, 3].
    """
    count = 1 + max(b for b, _ in kernels)
    support, query = labels.support, labels.query
    found = {}
    for a in range(count):
        alpha = learn(kernels[a, a][support][:, :, support], labels.targets, ridge)
        for b in range(count):
            kernel = kernels[b, a] if b >= a else kernels[a, b].permute(2, 3, 0, 1)
            rows = kernel[query][:, :, support].reshape(2 * len(query), -1)
            found[a, b] = (rows @ alpha).view(-1, 2) @ CONTRASTS.to(alpha)
    return found


def _features(trace: Traces) -> list[Tensor]:
    """Return principal features of the inputs at all sites but the first.

    The first block hardly depends on the image yet; it is used only where there is no other site.
    """
    inputs = list(trace.last.values())
    return [principal_features(x) for x in inputs[1:] or inputs]


def _kernels(pairs: Sequence[Subspaces], traces: Sequence[Traces]) -> Kernels:
    """Compute the kernels of all pairs of models on one pseudo-task."""
    found = [effects(trace, pair) for trace, pair in zip(traces, pairs, strict=True)]
    flat = [phi.flatten(0, 1) for phi in found]
    size = len(found[0])
    return {
        (b, a): (flat[b] @ flat[a].t()).view(size, 2, size, 2)
        for b in range(len(found))
        for a in range(b + 1)
    }
