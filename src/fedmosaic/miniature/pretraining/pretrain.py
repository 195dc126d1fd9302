"""Pretrain the miniature models: first the shared vision tower, then each language model.

``pretrain(Path("models"), seed=0)`` writes one Hugging Face folder for each architecture, with
weights in float16, tokenizer, image-processor settings and ``report.json`` (accuracy of each skill
on held-out pictures, learning curve, settings). The same seed gives the same bytes on one machine:
one thread is used, and every draw is seeded.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPImageProcessorPil, CLIPVisionModel

from fedmosaic.files import atomic_folder
from fedmosaic.miniature.pretraining import vision_tower
from fedmosaic.miniature.pretraining.architectures import (
    ARCHITECTURES,
    Architecture,
    folder_name,
    get_architecture,
)
from fedmosaic.miniature.pretraining.image_pairs import PicturePool
from fedmosaic.miniature.pretraining.language_model import BATCH, Progress, train_language_model
from fedmosaic.miniature.pretraining.scenes import draw_picture
from fedmosaic.miniature.pretraining.skills import skill_report
from fedmosaic.miniature.world.scene import IMAGE_SIZE
from fedmosaic.seeding import seed_for

TOWER_SEED = 0
POOL_PICTURES = 24_000


def pretrain(
    out: Path,
    *,
    seed: int = 0,
    names: Sequence[str] | None = None,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Train the miniature models and write them to folders.

    Args:
        out: folder for ``tower/`` and one folder a model (``llama-8x96``, or ``llama-8x96-1`` for
            seed 1). An existing tower is used as it is; it does not depend on ``seed``.
        seed: pretraining seed of the language models (weights and corpus); default 0.
        names: architectures to train; default None, all.
        minutes: length of each language model's training. The typical speed of a core turns it into
            a number of steps, so the result does not depend on how busy the machine is. Default
            None, the architecture's own steps (about 10 minutes each).
        progress: reports the loss; default None, lines on the standard output with the time left.

    Returns:
        The models' folders.

    Raises:
        ModelError: an architecture is unknown. It is raised before anything is trained.
    """
    chosen = [get_architecture(name) for name in names] if names else list(ARCHITECTURES.values())
    report_progress = progress or print_progress()
    with _one_thread():
        tower, tower_report = _tower(out / "tower", minutes, report_progress)
        pool = _draw_pool()
        features = vision_tower.tower_features(tower, pool.pictures)
        folders = []
        for architecture in chosen:
            steps = _steps(architecture, minutes)
            model, tokenizer, curve = train_language_model(
                architecture, tower, pool, features, seed, steps, report_progress
            )
            report = {
                "architecture": architecture.name,
                "seed": seed,
                "steps": steps,
                "batch": BATCH,
                "tower": tower_report,
                "skills": skill_report(model, tokenizer, tower),
                "curve": curve,
            }
            folders.append(out / folder_name(architecture.name, seed))
            save_model(folders[-1], model, tokenizer, report)
    return folders


def _draw_pool() -> PicturePool:
    rng = random.Random(seed_for("miniature-pool", TOWER_SEED))
    return PicturePool([draw_picture(rng) for _ in range(POOL_PICTURES)])


def _steps(architecture: Architecture, minutes: float | None) -> int:
    if minutes is None:
        return architecture.steps
    return max(1, round(minutes * architecture.steps_per_minute))


def image_processor() -> CLIPImageProcessorPil:
    """Return the image processor of the miniature models: 60 × 60 pixels, values from -1 to 1."""
    edge = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return CLIPImageProcessorPil(
        size=edge, crop_size=edge, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def save_model(folder: Path, model: Any, tokenizer: Any, report: dict[str, Any]) -> None:
    """Write a model as a Hugging Face folder in float16, completely or not at all."""
    with atomic_folder(folder) as work:
        model.half().save_pretrained(work)
        tokenizer.save_pretrained(work)
        image_processor().save_pretrained(work)
        _write_report(work, report)
    model.float()


def _write_report(folder: Path, report: dict[str, Any]) -> None:
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _tower(
    folder: Path, minutes: float | None, progress: Progress
) -> tuple[CLIPVisionModel, dict[str, Any]]:
    """Return the tower in ``folder`` and its report; train it if there is none.

    ``minutes`` shortens the training as it does for the language models.
    """
    if (folder / "report.json").is_file():
        tower = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return tower.eval().requires_grad_(False), report
    steps = vision_tower.TOWER_STEPS
    if minutes is not None:
        steps = max(1, min(steps, round(minutes * vision_tower.STEPS_PER_MINUTE)))
    tower, accuracy = vision_tower.train_tower(TOWER_SEED, steps, progress)
    rounded = {name: round(value, 3) for name, value in accuracy.items()}
    report = {"steps": steps, "seed": TOWER_SEED, "accuracy": rounded}
    with atomic_folder(folder) as work:
        tower.half().save_pretrained(work)
        _write_report(work, report)
    return tower.float(), report


def print_progress() -> Progress:
    """Return a reporter that prints a line with the step, the loss and the time left."""
    started: dict[str, float] = {}

    def show(name: str, step: int, steps: int, loss: float) -> None:
        begin = started.setdefault(name, time.monotonic())
        seconds = (time.monotonic() - begin) * (steps - step) / max(step, 1)
        print(
            f"{name}: step {step}/{steps}, loss {loss:.3f}, {seconds / 60:.1f} min left", flush=True
        )

    return show


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread, because sums over several threads depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
