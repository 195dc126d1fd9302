"""Find the examples that a model cannot take, without encoding all of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from fedmosaic.data.example import IMAGE_MARK, Example
from fedmosaic.errors import FedMosaicError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.limits import context_length

Form = tuple[tuple[str, int, bool], ...]


@dataclass(frozen=True)
class Refusal:
    """Hold the place among the examples of one that a model cannot take, and why."""

    index: int
    reason: FedMosaicError


def first_refusal(backbone: Backbone, examples: Iterable[Example]) -> Refusal | None:
    """Return the first example that a model cannot take; None if it takes all.

    The first example of each form is encoded. The form is of each turn its role, its number of
    images and whether it has words, on which chat templates and processors depend. Another example
    of a form is encoded only where it may be too long, or spells a token of its own.
    """
    check = ItemCheck(backbone)
    for index, example in enumerate(examples):
        try:
            check.require(example)
        except FedMosaicError as error:
            return Refusal(index, error)
    return None


class ItemCheck:
    """Require of one example after the other that a model takes it.

    Args:
        backbone: the model.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.longest = context_length(backbone.text_config)
        self.lengths: dict[Form, int] = {}
        self._overheads: dict[Form, int] = {}
        tokenizer = backbone.tokenizer
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        added |= {tokenizer.bos_token, tokenizer.eos_token, backbone.chat.image_token}
        self.tokens = {token for token in added if token and token.strip()} - {IMAGE_MARK}
        self.first_letters = {token[0] for token in self.tokens}
        self.image_tokens = cache(self._image_tokens)

    def require(self, example: Example) -> None:
        """Raise what encoding the example would raise."""
        form = _form(example)
        if form in self.lengths and self._fits(example, self.lengths[form]):
            return
        length = len(self.backbone.encode(example).input_ids)
        self.lengths.setdefault(form, length)
        content = None if form in self._overheads else self._content_tokens(example)
        if content is not None:
            self._overheads[form] = length - content

    def count_tokens(self, example: Example) -> int | None:
        """Return about how many tokens an example has that the model takes, without encoding it.

        They are the tokens of its texts and images, and what the chat template and the joints
        between texts added in the first example of its form.

        Returns:
            None where the processor cannot say how many tokens an image has.
        """
        overhead = self._overheads.get(_form(example))
        content = None if overhead is None else self._content_tokens(example)
        return None if overhead is None or content is None else overhead + content

    def _content_tokens(self, example: Example) -> int | None:
        """Return the tokens of an example's texts, each for itself, and of its images."""
        texts = [turn.text.replace(IMAGE_MARK, "") for turn in example.turns]
        found = self.backbone.tokenizer(texts, add_special_tokens=False)["input_ids"]
        count = sum(map(len, found))
        for image in example.images:
            tokens = self._fixed or self.image_tokens(image.size)
            if tokens is None:
                return None
            count += tokens
        return count

    def _fits(self, example: Example, overhead: int) -> bool:
        """Return whether an example surely fits.

        Args:
            example: The example.
            overhead: Tokens of another example of its form, which are at least as many as the chat
                template writes.
        """
        if any(self._spells_a_token(turn.text.replace(IMAGE_MARK, "")) for turn in example.turns):
            return False
        if not self.longest:
            return True
        bound = overhead + sum(_most_tokens(turn.text) for turn in example.turns)
        if bound > self.longest:
            return False
        for image in example.images:
            tokens = self._fixed or self.image_tokens(image.size)
            bound += tokens or self.longest + 1
        return bound <= self.longest

    def _spells_a_token(self, text: str) -> bool:
        if self.first_letters.isdisjoint(text):
            return False
        return any(token in text for token in self.tokens)

    @property
    def _fixed(self) -> int | None:
        images = self.backbone.images
        return images.tokens_per_image if images else None

    def _image_tokens(self, size: tuple[int, int]) -> int | None:
        """Return the tokens of an image of this size; None where the processor cannot say."""
        count: Any = getattr(self.backbone.processor, "_get_num_multimodal_tokens", None)
        if count is None:
            return None
        try:
            (found,) = count(image_sizes=[size])["num_image_tokens"]
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        return int(found)


def _form(example: Example) -> Form:
    return tuple(
        (turn.role, turn.text.count(IMAGE_MARK), bool(turn.text.strip())) for turn in example.turns
    )


def _most_tokens(text: str) -> int:
    """Return a number that the tokens of a text never exceed: its bytes, however normalised."""
    if text.isascii():
        return len(text) + 1
    return max(len(unicodedata.normalize(form, text).encode()) for form in ("NFC", "NFKD")) + 1
