"""Encode questions and answers for models that take a prefix and write a suffix (PaliGemma)."""

from __future__ import annotations

import inspect
from array import array
from typing import Any

from fedmosaic.data.example import IMAGE_MARK, Example
from fedmosaic.errors import ModelError
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.encoding import IGNORE, Encoded, Encoder, TokenizedChat


def takes_suffix(chat: ChatFormat, processor: Any | None) -> bool:
    """Return whether a processor has no chat template, but takes a question and its answer."""
    return (
        processor is not None
        and not chat.has_template
        and "suffix" in inspect.signature(type(processor).__call__).parameters
    )


class PrefixEncoder(Encoder):
    """Encode one question about images and its answer, as a processor of this kind does.

    The images stand before the question. The prefix attends to all of itself, which
    ``token_type_ids`` say (0 for the prefix, 1 for the suffix).
    """

    def encode(self, example: Example, answer: bool = True) -> Encoded:
        """Return token ids and labels of an example; see :meth:`Encoder.encode`.

        Raises:
            ModelError: the example has no image, or is no question and answer.
        """
        assert self.images is not None
        if [turn.role for turn in example.turns] != ["user", "assistant"] or not example.images:
            raise ModelError(
                f"{self.chat.name} takes one question about at least one image and its answer, but "
                f"example {example.id!r} has {len(example.turns)} turns and "
                f"{len(example.images)} images: use a model with a chat template"
            )
        question = example.question.replace(IMAGE_MARK, "").strip()
        more = {"suffix": [example.answer]} if answer else {}
        text = str(self.chat.image_token) * len(example.images) + question
        out = self.images.process(text, example.images, special=True, **more)
        units = tuple((image,) for image in example.images)
        self.images.compute(units, out)
        ids, types = (
            array("i", map(int, out[name][0])) for name in ("input_ids", "token_type_ids")
        )
        labels = array("i", [i if t else IGNORE for i, t in zip(ids, types, strict=True)])
        return Encoded(ids, labels, units, {"token_type_ids": types})

    def answer(self, text: str) -> list[int]:
        """Return the tokens of a text as an answer, with the one that ends it."""
        ended = text + str(self.tokenizer.eos_token)
        return list(self.tokenizer(ended, add_special_tokens=False)["input_ids"])

    def read(self, example: Example) -> TokenizedChat:
        """Refuse to say which tokens come from where, which alignment and distillation ask for."""
        raise ModelError(
            f"{self.chat.name} has no chat template, so its tokens cannot be matched with those of "
            "other models: train without an alignment, by an algorithm that exchanges no "
            "predictions on public examples"
        )
