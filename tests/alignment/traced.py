"""Make up the traces of models whose activations depend on a few hidden variables."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedmosaic.alignment.refinement.closed_form import GroupMoments
from fedmosaic.alignment.refinement.pseudo_tasks import CONTRASTS, PseudoTask
from fedmosaic.alignment.refinement.traces import Traces

RANK, WIDTH = 6, 8
EQUAL = {"block.0.o": 1.0, "block.1.o": 1.0}


def some_task(examples: int = 64) -> PseudoTask:
    draw = np.random.default_rng(3)
    options = torch.tensor(np.array([draw.permutation(4)[:3] for _ in range(examples)]))
    return PseudoTask([], options, 4)


def some_traces(
    seed: int, examples: int = 64, rotation: tuple[Tensor, Tensor] | None = None
) -> Traces:
    """Make up traces; ``rotation`` gives the same in other coordinates."""
    draw = torch.Generator().manual_seed(seed)
    world = torch.Generator().manual_seed(0)
    hidden = torch.randn(examples, 5, generator=draw)
    weight = torch.randn(5, WIDTH, generator=world)
    x = torch.stack((torch.randn(examples, WIDTH, generator=draw) * 0.1, hidden @ weight), 1)
    words = torch.randn(4, WIDTH, generator=world)
    meaning = CONTRASTS @ words[some_task(examples).options]
    g = meaning[:, :, None] + 0.3 * torch.randn(examples, 2, 2, WIDTH, generator=draw)
    if rotation is not None:
        x, g = x @ rotation[0], g @ rotation[1]
    return Traces(
        {"block.0.o": x, "block.1.o": x},
        {"block.0.o": g, "block.1.o": g},
        torch.full((examples, 2), -1),
    )


def moments(*models: list[Traces]) -> GroupMoments:
    found = GroupMoments()
    for traces in zip(*models, strict=True):
        found.update(traces)
    return found


def rotations() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(9)
    one, two = (torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw)).Q for _ in range(2))
    return one, two


def random_pair(seed: int) -> dict[str, Tensor]:
    """Draw random A and B."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"A": (RANK, WIDTH), "B": (WIDTH, RANK)}
    return {
        f"block.{k}.o.{name}": torch.randn(*shapes[name], generator=draw)
        for k in (0, 1)
        for name in shapes
    }
