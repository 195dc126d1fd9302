"""Encode conversations as training batches, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.miniature.pretraining.architectures import IMAGE_TOKENS

IGNORE = -100
"""Label of a token that is no answer token."""


@dataclass(frozen=True)
class TrainingBatch:
    """Hold conversations as tensors.

    Attributes:
        ids: token ids, int64 [n, T].
        labels: the ids of answer tokens and -100 elsewhere, int64 [n, T].
        images: indices of the pictures in the pool, in reading order, int64 [pictures].
    """

    ids: Tensor
    labels: Tensor
    images: Tensor


class ConversationEncoder:
    """Encode conversations with a tokenizer's chat template.

    The parts of the template are extracted at the start, so that thousands of conversations can be
    encoded in a second. The ids are those of the template applied to the whole conversation.

    Args:
        tokenizer: a tokenizer with a chat template and an ``<image>`` token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.image_id: int = tokenizer.convert_tokens_to_ids("<image>")
        user, assistant = {"role": "user", "content": "\0"}, {"role": "assistant", "content": "\0"}
        prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template([user, assistant], tokenize=False)
        opening, closing = prompt.split("\0")
        self._open, self._close = self._ids(opening), self._ids(closing)
        self._end = self._ids(whole[len(prompt) :].split("\0")[1])
        self._cache: dict[str, list[int]] = {}

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _cached_ids(self, text: str) -> list[int]:
        if text not in self._cache:
            if len(self._cache) > 200_000:
                self._cache.clear()
            self._cache[text] = self._ids(text)
        return self._cache[text]

    def encode(
        self, images: Sequence[int], turns: Sequence[tuple[str, str]]
    ) -> tuple[list[int], list[int]]:
        """Return ids and labels of one conversation.

        Args:
            images: indices of its pictures; all are shown at the start of the first turn.
            turns: (question, answer) pairs.
        """
        ids: list[int] = []
        labels: list[int] = []
        for k, (question, answer) in enumerate(turns):
            marks = [self.image_id] * (IMAGE_TOKENS * len(images)) if k == 0 else []
            prompt = [
                *self._open,
                *marks,
                *self._cached_ids(question.replace("<image>", "")),
                *self._close,
            ]
            answer_ids = [*self._cached_ids(answer), *self._end]
            ids += prompt + answer_ids
            labels += [IGNORE] * len(prompt) + answer_ids
        return ids, labels

    def batch(
        self, items: Sequence[tuple[Sequence[int], Sequence[tuple[str, str]]]]
    ) -> TrainingBatch:
        """Encode several conversations, each given as (picture indices, turns).

        Padding on the right needs no attention mask, because attention is causal.
        """
        return self.pad(
            [self.encode(images, turns) for images, turns in items], [images for images, _ in items]
        )

    def pad(
        self, encoded: Sequence[tuple[list[int], list[int]]], images: Sequence[Sequence[int]]
    ) -> TrainingBatch:
        """Return encoded conversations and their picture indices as one batch."""
        width = max(len(ids) for ids, _ in encoded)
        pad = self.tokenizer.pad_token_id
        return TrainingBatch(
            torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in encoded]),
            torch.tensor([labels + [IGNORE] * (width - len(labels)) for _, labels in encoded]),
            torch.tensor([index for indices in images for index in indices], dtype=torch.long),
        )


def answer_logits(
    model: Any, batch: TrainingBatch, features: Tensor, image_id: int
) -> tuple[Tensor, Tensor]:
    """Return the logits that predict the answer tokens, and these tokens.

    Args:
        model: a ``LlavaForConditionalGeneration``; its tower is not run.
        batch: a batch of :class:`ConversationEncoder`.
        features: features of the tower for the whole pool, [pictures, 9, width].
        image_id: id of the image token.

    Returns:
        Logits [answer tokens, vocabulary] and token ids [answer tokens].
    """
    inner = model.model
    embedded = inner.language_model.embed_tokens(batch.ids)
    if len(batch.images):
        projected = inner.multi_modal_projector(features[batch.images])
        embedded = embedded.masked_scatter((batch.ids == image_id).unsqueeze(-1), projected)
    hidden = inner.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    targets = batch.labels[:, 1:]
    is_answer = targets != IGNORE
    return model.lm_head(hidden[:, :-1][is_answer]), targets[is_answer]


@torch.no_grad()
def whiten_projector(projector: nn.Module, features: Tensor, floor: float = 0.01) -> None:
    """Fold a whitening of the tower's features into the projector's first layer, in place.

    The projector then starts as if its inputs x were C^(-1/2) (x - mean), where C is the covariance
    of the features plus ``floor`` times their mean variance. Directions of small variance, such as
    the fill of a shape, then count as much as those of large variance, such as colour.

    Args:
        projector: the multi-modal projector; ``linear_1`` is its first layer.
        features: features of the tower, [pictures, 9, width].
        floor: regularisation of the covariance; default 0.01.
    """
    first = projector.linear_1
    assert isinstance(first, nn.Linear)
    flat = features.flatten(0, 1).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(flat.T))
    scale = (values.clamp_min(0) + floor * values.mean()).rsqrt()
    whitening = (vectors * scale) @ vectors.T
    first.weight.copy_(first.weight.double() @ whitening)
    first.bias.copy_(-(first.weight.double() @ mean))
