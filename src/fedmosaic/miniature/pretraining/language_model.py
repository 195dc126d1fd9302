"""Train a miniature language model on the cached features of the vision tower."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, PreTrainedTokenizerBase

from fedmosaic.miniature.pretraining.architectures import Architecture, build_model
from fedmosaic.miniature.pretraining.batches import (
    ConversationEncoder,
    TrainingBatch,
    answer_logits,
    whiten_projector,
)
from fedmosaic.miniature.pretraining.corpus import VOCABULARY, Corpus, tokenizer_texts
from fedmosaic.miniature.pretraining.depth_growth import GrowingDecoder
from fedmosaic.miniature.pretraining.image_pairs import PicturePool
from fedmosaic.miniature.pretraining.tokenizers import build_tokenizer
from fedmosaic.seeding import seed_for

Progress = Callable[[str, int, int, float], None]
"""Function that is called now and then with (name of what is trained, step, steps, loss)."""

TOKENIZER_SEED = 0
BATCH = 24
"""Conversations in a batch."""
LEARNING_RATE = 1.5e-3
GROW_AT = 0.8
"""Share of the steps after which the decoder gets its full depth."""

_WARM_UP_STEPS = 100
_SORTED_BATCHES = 6
_CURVE_INTERVAL = 50  # steps between two points of the learning curve


def train_language_model(
    architecture: Architecture,
    tower: CLIPVisionModel,
    pool: PicturePool,
    features: Tensor,
    seed: int,
    steps: int,
    progress: Progress,
) -> tuple[Any, PreTrainedTokenizerBase, list[tuple[int, float]]]:
    """Train embeddings, projector and decoder of one model; the vision tower stays frozen.

    Args:
        architecture: what to train.
        tower: the vision tower, which becomes part of the model.
        pool: pictures to talk about.
        features: features of the tower for all pictures of the pool, [pictures, 9, width].
        seed: draws the initial weights and the conversations.
        steps: number of batches.
        progress: reports the loss.

    Returns:
        The model (eval mode, weights rounded to float16 precision), its tokenizer, and the
        learning curve as (step, mean loss since the point before).
    """
    texts = tokenizer_texts(pool, TOKENIZER_SEED)
    tokenizer = build_tokenizer(architecture.family, VOCABULARY, texts)
    model = build_model(
        architecture, tokenizer, seed_for("miniature-model", architecture.name, seed)
    )
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.vision_tower.requires_grad_(False)
    whiten_projector(model.model.multi_modal_projector, features)
    corpus = Corpus(pool, random.Random(seed_for("miniature-corpus", architecture.name, seed)))
    curve = _optimise(model, architecture, corpus, tokenizer, features, steps, progress)
    for weight in model.parameters():
        weight.data = weight.data.half().float()
    return model.eval(), tokenizer, curve


def _optimise(
    model: Any,
    architecture: Architecture,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    features: Tensor,
    steps: int,
    progress: Progress,
) -> list[tuple[int, float]]:
    """Take all training steps, and return the learning curve."""
    model.train()
    encoder = ConversationEncoder(tokenizer)
    batches = _batches(corpus, encoder, steps)
    decoder = GrowingDecoder(model.model.language_model, architecture.initial_depth)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.02)
    curve: list[tuple[int, float]] = []
    mean = 0.0
    for step in range(steps):
        if step == round(GROW_AT * steps):
            new_weights = decoder.grow()
            optimizer.add_param_group({"params": new_weights})
            weights += new_weights
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps)
        logits, targets = answer_logits(model, next(batches), features, encoder.image_id)
        loss = F.cross_entropy(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        mean += float(loss.detach())
        if step % _CURVE_INTERVAL == _CURVE_INTERVAL - 1 or step == steps - 1:
            mean /= step % _CURVE_INTERVAL + 1
            curve.append((step + 1, round(mean, 4)))
            progress(architecture.name, step + 1, steps, mean)
            mean = 0.0
    return curve


def _learning_rate(step: int, steps: int) -> float:
    """Return the rate of a step: linear warm-up, then a cosine down to 2 % of the full rate."""
    warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
    return LEARNING_RATE * warm_up * (0.51 + 0.49 * math.cos(math.pi * step / steps))


def _batches(corpus: Corpus, encoder: ConversationEncoder, steps: int) -> Iterator[TrainingBatch]:
    """Yield batches of conversations of similar length, which need little padding.

    The conversations of six batches at a time are sorted by length, cut into batches, and the
    batches are shuffled.
    """
    for step in range(0, steps, _SORTED_BATCHES):
        conversations = [corpus.conversation(step / steps) for _ in range(_SORTED_BATCHES * BATCH)]
        encoded = [
            (encoder.encode(conversation.images, conversation.turns), conversation.images)
            for conversation in conversations
        ]
        encoded.sort(key=lambda entry: len(entry[0][0]))
        parts = [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]
        corpus.rng.shuffle(parts)
        for part in parts:
            yield encoder.pad([ids for ids, _ in part], [images for _, images in part])
