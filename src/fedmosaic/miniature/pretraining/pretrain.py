"""Pretraining of the miniature bases: first the shared tower, then each language model on its cached features.

``pretrain(Path("bases"), seed=0)`` writes one Hugging Face folder for each architecture with weights in float16,
tokenizer, image-processor settings and ``report.json`` (accuracy of each skill on held-out pictures, learning curve,
settings). The same seed gives the same bytes on one machine: one thread, every draw seeded.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil, CLIPVisionModel

from fedmosaic.files import atomic_folder
from fedmosaic.miniature.pretraining import vision_tower
from fedmosaic.miniature.pretraining.architectures import (
    ARCHITECTURES,
    Architecture,
    build_model,
    folder_name,
    get_architecture,
)
from fedmosaic.miniature.pretraining.batches import (
    ConversationEncoder,
    TrainingBatch,
    answer_logits,
    whiten_projector,
)
from fedmosaic.miniature.pretraining.corpus import VOCABULARY, Corpus, tokenizer_texts
from fedmosaic.miniature.pretraining.depth_growth import GrowingDecoder
from fedmosaic.miniature.pretraining.image_pairs import PicturePool
from fedmosaic.miniature.pretraining.scenes import draw_picture
from fedmosaic.miniature.pretraining.tokenizers import build_tokenizer
from fedmosaic.miniature.world.render import IMAGE_SIZE
from fedmosaic.seeding import seed_for

Progress = Callable[[str, int, int, float], None]
"""Called with (what is trained, step, steps, loss) now and then."""

TOWER_SEED = 0
BATCH = 24
RATE = 1.5e-3
POOL = 24_000
CHECK_POOL = 4_000
CHECKS = 4_000
GROW_AT = 0.8  # share of the steps after which the decoder gets its full depth
_WARM_UP = 100
_SORTED = 6
_EVERY = 50


def pretrain(
    out: Path,
    *,
    seed: int = 0,
    names: Sequence[str] | None = None,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Train the miniature bases.

    Args:
        out: Folder for ``tower/`` and one folder a model (``llama-8x96``, or ``llama-8x96-1`` for seed 1). A tower that
            is there already is used as it is: it does not depend on ``seed``.
        seed: Pretraining seed of the language models (weights and corpus).
        names: Architectures to train; default all.
        minutes: Length of each language model's training, turned into a number of steps by the typical speed of a
            core, so that the result does not depend on how busy the machine is. Default: the recipe's steps (about 10
            minutes each).
        progress: Where to report; default: lines on the standard output with the time left.

    Returns:
        The models' folders.

    Raises:
        ModelError: For an unknown architecture, before anything is trained.
    """
    chosen = [get_architecture(name) for name in names] if names else list(ARCHITECTURES.values())
    show = progress or print_progress()
    with _one_thread():
        tower, tower_report = _tower(out / "tower", minutes, show)
        rng = random.Random(seed_for("miniature-pool", TOWER_SEED))
        pool = PicturePool([draw_picture(rng) for _ in range(POOL)])
        features = vision_tower.tower_features(tower, pool.pictures)
        folders = []
        for architecture in chosen:
            steps = (
                architecture.steps
                if minutes is None
                else max(1, round(minutes * architecture.steps_per_minute))
            )
            model, tokenizer, curve = train_language_model(
                architecture, tower, pool, features, seed, steps, show
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
            folder = out / folder_name(architecture.name, seed)
            save_base(folder, model, tokenizer, report)
            folders.append(folder)
    return folders


def train_language_model(
    architecture: Architecture,
    tower: CLIPVisionModel,
    pool: PicturePool,
    features: Tensor,
    seed: int,
    steps: int,
    progress: Progress,
) -> tuple[Any, Any, list[tuple[int, float]]]:
    """Train embeddings, projector and decoder of one model on cached features; the tower stays frozen.

    Returns:
        The model (eval mode, weights rounded to float16 precision), its tokenizer and the curve of (step, loss).
    """
    tokenizer = build_tokenizer(architecture.family, VOCABULARY, tokenizer_texts(pool, TOWER_SEED))
    model = build_model(
        architecture, tokenizer, seed_for("miniature-model", architecture.name, seed)
    )
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.vision_tower.requires_grad_(False)
    whiten_projector(model.model.multi_modal_projector, features)
    model.train()
    encoder = ConversationEncoder(tokenizer)
    corpus = Corpus(pool, random.Random(seed_for("miniature-corpus", architecture.name, seed)))
    batches = _batches(corpus, encoder, steps)
    decoder = GrowingDecoder(model.model.language_model, architecture.initial_depth)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.99), weight_decay=0.02)
    curve: list[tuple[int, float]] = []
    mean = 0.0
    for step in range(steps):
        rate = (
            RATE
            * min(1.0, (step + 1) / _WARM_UP)
            * (0.51 + 0.49 * math.cos(math.pi * step / steps))
        )
        if step == round(GROW_AT * steps):
            fresh = decoder.grow()
            optimizer.add_param_group({"params": fresh})
            weights += fresh
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits, wanted = answer_logits(model, next(batches), features, encoder.image_id)
        loss = F.cross_entropy(logits, wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        mean += float(loss.detach())
        if step % _EVERY == _EVERY - 1 or step == steps - 1:
            mean /= step % _EVERY + 1
            curve.append((step + 1, round(mean, 4)))
            progress(architecture.name, step + 1, steps, mean)
            mean = 0.0
    for weight in model.parameters():
        weight.data = weight.data.half().float()
    return model.eval(), tokenizer, curve


def _batches(corpus: Corpus, encoder: ConversationEncoder, steps: int) -> Iterator[TrainingBatch]:
    """Batches of conversations of about equal length (little padding): four at a time are sorted, then shuffled."""
    for step in range(0, steps, _SORTED):
        items = [corpus.conversation(step / steps) for _ in range(_SORTED * BATCH)]
        encoded = [(encoder.encode(item.images, item.turns), item.images) for item in items]
        encoded.sort(key=lambda entry: len(entry[0][0]))
        parts = [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]
        corpus.rng.shuffle(parts)
        for part in parts:
            yield encoder.pad([ids for ids, _ in part], [images for _, images in part])


@torch.no_grad()
def skill_report(
    model: Any, tokenizer: Any, tower: CLIPVisionModel, checks: int = CHECKS, seed: int = 0
) -> dict[str, Any]:
    """Share of held-out questions whose whole answer is the most likely one, token by token (greedy decoding).

    Returns:
        Skill -> ``{"choice": ..., "open": ..., "count": n}``; ``choice`` with options in the prompt, ``open`` without.
    """
    rng = random.Random(seed_for("miniature-check", seed))
    pool = PicturePool([draw_picture(rng) for _ in range(CHECK_POOL)])
    features = vision_tower.tower_features(tower, pool.pictures)
    corpus, encoder = Corpus(pool, rng), ConversationEncoder(tokenizer)
    right: dict[str, dict[str, list[bool]]] = {}
    for _ in range(0, checks, BATCH):
        probes = [corpus.held_out_question() for _ in range(BATCH)]
        batch = encoder.batch([(probe.images, ((probe.text, probe.answer),)) for probe in probes])
        logits, wanted = answer_logits(model, batch, features, encoder.image_id)
        hits = iter((logits.argmax(-1) == wanted).tolist())
        for probe, labels in zip(probes, batch.labels, strict=True):
            correct = all([next(hits) for _ in range(int((labels >= 0).sum()))])
            form = "choice" if probe.options or "Options" in probe.text else "open"
            right.setdefault(probe.skill, {"choice": [], "open": []})[form].append(correct)
    report: dict[str, Any] = {}
    for skill, forms in sorted({**right, "all": _joined(right)}.items()):
        entry: dict[str, Any] = {form: round(sum(r) / len(r), 3) for form, r in forms.items() if r}
        report[skill] = entry | {"count": sum(map(len, forms.values()))}
    return report


def _joined(right: dict[str, dict[str, list[bool]]]) -> dict[str, list[bool]]:
    return {
        form: [hit for forms in right.values() for hit in forms[form]]
        for form in ("choice", "open")
    }


def image_processor() -> CLIPImageProcessorPil:
    """The image processor of the miniature models: 60 x 60 pixels, values from -1 to 1."""
    edge = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return CLIPImageProcessorPil(
        size=edge, crop_size=edge, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def save_base(folder: Path, model: Any, tokenizer: Any, report: dict[str, Any]) -> None:
    """Write a base as a Hugging Face folder, float16, as a whole or not at all."""
    with atomic_folder(folder) as work:
        model.half().save_pretrained(work)
        tokenizer.save_pretrained(work)
        image_processor().save_pretrained(work)
        (work / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    model.float()


def _tower(
    folder: Path, minutes: float | None, progress: Progress
) -> tuple[CLIPVisionModel, dict[str, Any]]:
    """The tower in ``folder``, or one trained now (shorter when ``minutes`` asks for short training)."""
    if (folder / "report.json").is_file():
        tower = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
        return tower.eval().requires_grad_(False), json.loads(
            (folder / "report.json").read_text(encoding="utf-8")
        )
    steps = vision_tower.TOWER_STEPS
    if minutes is not None:
        steps = max(1, min(steps, round(minutes * vision_tower.STEPS_PER_MINUTE)))
    tower, accuracy = vision_tower.train_tower(TOWER_SEED, steps, progress)
    rounded = {name: round(value, 3) for name, value in accuracy.items()}
    report = {"steps": steps, "seed": TOWER_SEED, "accuracy": rounded}
    with atomic_folder(folder) as work:
        tower.half().save_pretrained(work)
        (work / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return tower.float(), report


def print_progress() -> Progress:
    """A reporter that prints one line now and then, with the time left for what is being trained."""
    started: dict[str, float] = {}

    def show(what: str, step: int, steps: int, loss: float) -> None:
        begin = started.setdefault(what, time.monotonic())
        seconds = (time.monotonic() - begin) * (steps - step) / max(step, 1)
        print(
            f"{what}: step {step}/{steps}, loss {loss:.3f}, {seconds / 60:.1f} min left", flush=True
        )

    return show


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: sums of several threads would depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
