"""Conversations as training batches: token ids, answer labels and the pictures' indices, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.miniature.pretraining.architectures import IMAGE_TOKENS

IGNORE = -100


@dataclass(frozen=True)
class TrainingBatch:
    """Ids and labels int64 [n, T] (labels -100 outside answers); picture indices in reading order."""

    ids: Tensor
    labels: Tensor
    images: Tensor


class ConversationEncoder:
    """Writes conversations with a tokenizer's chat template.

    The template's parts are read off once, so that encoding thousands of conversations a second needs no templating;
    ids are the same as those of the template applied to the whole conversation.

    Args:
        tokenizer: With a chat template and an ``<image>`` token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.image_id: int = tokenizer.convert_tokens_to_ids("<image>")
        user, bot = {"role": "user", "content": "\0"}, {"role": "assistant", "content": "\0"}
        prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template([user, bot], tokenize=False)
        opening, closing = prompt.split("\0")
        self._open, self._close = self._ids(opening), self._ids(closing)
        self._end = self._ids(whole[len(prompt) :].split("\0")[1])
        self._known: dict[str, list[int]] = {}

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _cached(self, text: str) -> list[int]:
        if text not in self._known:
            if len(self._known) > 200_000:
                self._known.clear()
            self._known[text] = self._ids(text)
        return self._known[text]

    def encode(
        self, images: Sequence[int], turns: Sequence[tuple[str, str]]
    ) -> tuple[list[int], list[int]]:
        """Ids and labels of one conversation whose first turn begins with its image marks."""
        ids: list[int] = []
        labels: list[int] = []
        for k, (question, answer) in enumerate(turns):
            marks = [self.image_id] * (IMAGE_TOKENS * len(images)) if k == 0 else []
            prompt = [
                *self._open,
                *marks,
                *self._cached(question.replace("<image>", "")),
                *self._close,
            ]
            spoken = [*self._cached(answer), *self._end]
            ids += prompt + spoken
            labels += [IGNORE] * len(prompt) + spoken
        return ids, labels

    def batch(
        self, items: Sequence[tuple[Sequence[int], Sequence[tuple[str, str]]]]
    ) -> TrainingBatch:
        """Several conversations, each as (picture indices, turns). Padding needs no mask: attention is causal."""
        return self.pad(
            [self.encode(images, turns) for images, turns in items], [images for images, _ in items]
        )

    def pad(
        self, encoded: Sequence[tuple[list[int], list[int]]], images: Sequence[Sequence[int]]
    ) -> TrainingBatch:
        """Encoded conversations and their picture indices as one batch."""
        width = max(len(ids) for ids, _ in encoded)
        pad = self.tokenizer.pad_token_id
        return TrainingBatch(
            torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in encoded]),
            torch.tensor([labels + [IGNORE] * (width - len(labels)) for _, labels in encoded]),
            torch.tensor([index for shown in images for index in shown], dtype=torch.long),
        )


def answer_logits(
    model: Any, batch: TrainingBatch, features: Tensor, image_id: int
) -> tuple[Tensor, Tensor]:
    """Logits [answer tokens, vocabulary] where an answer token is predicted, and those tokens.

    Args:
        model: A ``LlavaForConditionalGeneration``; its tower is not run.
        batch: What :class:`ConversationEncoder` made.
        features: Tower features of the whole pool, [pictures, 9, width].
        image_id: Id of the image token.
    """
    inner = model.model
    embedded = inner.language_model.embed_tokens(batch.ids)
    if len(batch.images):
        projected = inner.multi_modal_projector(features[batch.images])
        embedded = embedded.masked_scatter((batch.ids == image_id).unsqueeze(-1), projected)
    hidden = inner.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    wanted = batch.labels[:, 1:]
    asked = wanted != IGNORE
    return model.lm_head(hidden[:, :-1][asked]), wanted[asked]


@torch.no_grad()
def whiten_projector(projector: nn.Module, features: Tensor, floor: float = 0.01) -> None:
    """Fold a whitening of the tower's features into the projector's first layer, in place.

    The projector then starts as if its inputs x were C^(-1/2) (x - mean) with C their covariance (plus ``floor`` times
    its mean variance), so that what the tower says softly, such as how a shape is filled, is heard as well as colour.
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
