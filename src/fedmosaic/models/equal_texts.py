"""Encode examples whose texts are equal a single time, and refuse those beyond a model's limits."""

from __future__ import annotations

import weakref
from array import array
from dataclasses import replace
from typing import NamedTuple

from fedmosaic.data.example import Example, Turn
from fedmosaic.models.encoding import IGNORE, Encoded, Encoder, last_answer
from fedmosaic.models.limits import check_limits


class Limits(NamedTuple):
    """Hold what a model can take; see :func:`~fedmosaic.models.limits.check_limits`."""

    longest: int | None
    rows: int
    image_token: int | None


class EqualTexts:
    """Encode examples, those of equal turns from the tokens of one of them.

    Many questions of a task are about other images in the same words. Their tokens are equal where
    images do not change the text. They share the arrays of tokens as long as an example needs them.

    Args:
        name: Name of the model, for messages.
        encoder: Encodes one example.
    """

    def __init__(self, name: str, encoder: Encoder) -> None:
        self.name = name
        self.encoder = encoder
        self._known: weakref.WeakValueDictionary[
            tuple[tuple[Turn, ...], int, bool, object], Encoded
        ] = weakref.WeakValueDictionary()

    def encode(self, example: Example, answer: bool, limits: Limits) -> Encoded:
        """Return token ids and labels of an example; see :meth:`.Encoder.encode`.

        Raises:
            DataError: the example is beyond the limits.
            ModelError: as :meth:`.Encoder.encode`.
        """
        encoded = self._encode(example, answer)
        check_limits(example, encoded, self.name, *limits)
        return encoded

    def _encode(self, example: Example, answer: bool) -> Encoded:
        images = self.encoder.images
        if example.images and not getattr(images, "alike", False):
            return self.encoder.encode(example, answer)
        key = (example.turns, len(example.images), answer, self.encoder.chat.time)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self.encoder.encode(example, answer)
            return found
        return replace(found, units=tuple((image,) for image in example.images))


def last_labelled(encoded: Encoded) -> Encoded:
    """Return an encoded conversation of which only the last answer is labelled."""
    first = last_answer(encoded.labels)
    if all(label == IGNORE for label in encoded.labels[:first]):
        return encoded
    return replace(encoded, labels=array("i", [IGNORE]) * first + encoded.labels[first:])
