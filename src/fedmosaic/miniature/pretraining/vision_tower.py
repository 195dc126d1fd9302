"""Pretrain the shared vision tower with linear readouts of what each cell shows.

From the feature of each patch, linear classifiers predict what its cell shows. A further linear map
redraws the cell in grey at half resolution. It keeps features of things apart that have no
classifier, such as symbols that only the benchmark uses.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel

from fedmosaic.miniature.pretraining.architectures import TOWER_WIDTH, build_tower
from fedmosaic.miniature.pretraining.scenes import TARGETS, ScenePicture, cell_targets, draw_picture
from fedmosaic.miniature.world.scene import CELL
from fedmosaic.seeding import seed_for

TOWER_STEPS = 6000
STEPS_PER_MINUTE = 1500
"""Typical speed on one core."""
_BATCH = 64
_LEARNING_RATE = 2e-3
_REDRAWN_PIXELS = (CELL // 2) ** 2


def to_pixels(pictures: Sequence[ScenePicture]) -> Tensor:
    """Return the pictures as the image processor gives them, float32 [n, 3, 60, 60], -1 to 1."""
    stack = torch.from_numpy(np.stack([picture.pixels() for picture in pictures]))
    return stack.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.no_grad()
def tower_features(
    tower: CLIPVisionModel, pictures: Sequence[ScenePicture], batch: int = 256
) -> Tensor:
    """Return the patch features that the projector gets, float32 [n, 9, width].

    Args:
        tower: the vision tower.
        pictures: n pictures.
        batch: pictures in a forward pass; default 256.
    """
    parts = [
        tower(to_pixels(pictures[start : start + batch]), output_hidden_states=True).hidden_states[
            -1
        ][:, 1:]
        for start in range(0, len(pictures), batch)
    ]
    return torch.cat(parts)


def train_tower(
    seed: int,
    steps: int = TOWER_STEPS,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> tuple[CLIPVisionModel, dict[str, float]]:
    """Train a tower; its weights are rounded to float16 precision, in which they are saved.

    Args:
        seed: draws weights and pictures.
        steps: number of batches of 64 pictures; default 6,000.
        progress: called with ``("tower", step, steps, loss)`` now and then; default None.

    Returns:
        The frozen tower, and the accuracy of every readout on new pictures.
    """
    tower = build_tower(seed_for("miniature-tower", seed)).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("miniature-readout", seed))
        readout = nn.Linear(TOWER_WIDTH, sum(TARGETS.values()) + _REDRAWN_PIXELS)
    weights = [*tower.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02)
    rng = random.Random(seed_for("miniature-tower-pictures", seed))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = (
                _LEARNING_RATE
                * min(1.0, (step + 1) / 100)
                * (0.51 + 0.49 * math.cos(math.pi * step / steps))
            )
        loss, _ = _readout_loss(tower, readout, [draw_picture(rng) for _ in range(_BATCH)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if progress and (step % 100 == 99 or step == steps - 1):
            progress("tower", step + 1, steps, float(loss.detach()))
    for weight in tower.parameters():
        weight.data = weight.data.half().float()
    tower.eval().requires_grad_(False)
    rng = random.Random(seed_for("miniature-tower-check", seed))
    with torch.no_grad():
        _, accuracy = _readout_loss(tower, readout, [draw_picture(rng) for _ in range(2000)])
    return tower, accuracy


def _readout_loss(
    tower: CLIPVisionModel, readout: nn.Linear, pictures: Sequence[ScenePicture]
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of the readouts and the redrawn cells, and the readouts' accuracies.

    The accuracies are computed only if gradients are disabled.
    """
    pixels = to_pixels(pictures)
    features = tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    parts = readout(features).split([*TARGETS.values(), _REDRAWN_PIXELS], dim=-1)
    targets = torch.from_numpy(np.stack([cell_targets(picture) for picture in pictures]))
    losses, accuracy = [], {}
    for k, name in enumerate(TARGETS):
        logits, answers = parts[k].flatten(0, 1), targets[:, :, k].flatten()
        valid = answers >= 0
        if valid.any():
            losses.append(F.cross_entropy(logits[valid], answers[valid]))
            if not torch.is_grad_enabled():
                accuracy[name] = float((logits[valid].argmax(-1) == answers[valid]).float().mean())
    grey = F.avg_pool2d(pixels.mean(1, keepdim=True), 2)
    cells = F.unfold(grey, CELL // 2, stride=CELL // 2).transpose(1, 2)
    redraw = F.mse_loss(parts[-1], cells)
    return torch.stack(losses).sum() / 6 + 2 * redraw, accuracy | {
        "redraw_error": float(redraw.detach())
    }
