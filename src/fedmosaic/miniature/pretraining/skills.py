"""Measure the skills of a pretrained model on held-out pictures."""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import CLIPVisionModel

from fedmosaic.miniature.pretraining.batches import ConversationEncoder, answer_logits
from fedmosaic.miniature.pretraining.corpus import Corpus
from fedmosaic.miniature.pretraining.image_pairs import PicturePool
from fedmosaic.miniature.pretraining.scenes import draw_picture
from fedmosaic.miniature.pretraining.vision_tower import tower_features
from fedmosaic.seeding import seed_for

HELD_OUT_PICTURES = 4_000
QUESTIONS = 4_000
_BATCH = 24


@torch.no_grad()
def skill_report(
    model: Any, tokenizer: Any, tower: CLIPVisionModel, questions: int = QUESTIONS, seed: int = 0
) -> dict[str, Any]:
    """Return the share of held-out questions that a model answers right, for each skill.

    An answer is right if every token of it is the most likely one after the tokens before it, as
    greedy decoding would find it.

    Args:
        model: a ``LlavaForConditionalGeneration``.
        tokenizer: its tokenizer.
        tower: its vision tower.
        questions: number of questions, rounded up to whole batches of 24; default 4,000.
        seed: draws pictures and questions; default 0.

    Returns:
        Skill -> ``{"choice": share, "open": share, "count": number}``, with ``"all"`` for all
        skills together. ``choice`` is with options in the prompt, ``open`` without; a form that no
        question had is left out.
    """
    rng = random.Random(seed_for("miniature-check", seed))
    pool = PicturePool([draw_picture(rng) for _ in range(HELD_OUT_PICTURES)])
    features = tower_features(tower, pool.pictures)
    corpus, encoder = Corpus(pool, rng), ConversationEncoder(tokenizer)
    results: dict[str, dict[str, list[bool]]] = {}
    for _ in range(0, questions, _BATCH):
        asked = [corpus.held_out_question() for _ in range(_BATCH)]
        batch = encoder.batch([(each.images, ((each.text, each.answer),)) for each in asked])
        logits, targets = answer_logits(model, batch, features, encoder.image_id)
        hits = iter((logits.argmax(-1) == targets).tolist())
        for question, labels in zip(asked, batch.labels, strict=True):
            correct = all([next(hits) for _ in range(int((labels >= 0).sum()))])
            form = "choice" if question.options or "Options" in question.text else "open"
            results.setdefault(question.skill, {"choice": [], "open": []})[form].append(correct)
    report: dict[str, Any] = {}
    for skill, forms in sorted({**results, "all": _joined(results)}.items()):
        entry: dict[str, Any] = {form: round(sum(r) / len(r), 3) for form, r in forms.items() if r}
        report[skill] = entry | {"count": sum(map(len, forms.values()))}
    return report


def _joined(results: dict[str, dict[str, list[bool]]]) -> dict[str, list[bool]]:
    return {
        form: [correct for forms in results.values() for correct in forms[form]]
        for form in ("choice", "open")
    }
