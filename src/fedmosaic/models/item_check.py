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

Form = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Refusal:
    """Hold an example that a model cannot take, its place among the examples, and why."""

    index: int
    example: Example
    reason: FedMosaicError


def first_refusal(backbone: Backbone, examples: Iterable[Example]) -> Refusal | None:
    """Return the first example that a model cannot take; None if it takes all.

    The first example of each form is encoded. The form is the roles of the turns and the number of
    images in each, on which chat templates and processors depend. Another example of a form is
    encoded only where it may be too long, or holds a token without an embedding.
    """
    check = _Check(backbone)
    for index, example in enumerate(examples):
        try:
            check.require(example)
        except FedMosaicError as error:
            return Refusal(index, example, error)
    return None


class _Check:
    """Require of one example after the other that a model takes it."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.longest = context_length(backbone.text_config)
        self.lengths: dict[Form, int] = {}
        rows = backbone.model.get_input_embeddings().weight.shape[0]
        image = backbone.image_token_id
        added = backbone.tokenizer.added_tokens_decoder.items()
        self.unknown = [
            token.content for number, token in added if number >= rows and number != image
        ]
        self.image_tokens = cache(self._image_tokens)

    def require(self, example: Example) -> None:
        """Raise what encoding the example would raise."""
        form = tuple((turn.role, turn.text.count(IMAGE_MARK)) for turn in example.turns)
        if form in self.lengths and self._fits(example, self.lengths[form]):
            return
        length = len(self.backbone.encode(example).input_ids)
        self.lengths.setdefault(form, length)

    def _fits(self, example: Example, overhead: int) -> bool:
        """Return whether an example surely fits.

        Args:
            example: The example.
            overhead: Tokens of another example of its form, which are at least as many as the chat
                template writes.
        """
        if any(token in turn.text for turn in example.turns for token in self.unknown):
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


def _most_tokens(text: str) -> int:
    """Return a number that the tokens of a text never exceed: its bytes, however normalised."""
    if text.isascii():
        return len(text) + 1
    return max(len(unicodedata.normalize(form, text).encode()) for form in ("NFC", "NFKD")) + 1
