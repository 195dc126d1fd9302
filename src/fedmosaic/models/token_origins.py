"""Trace each token of an encoded conversation to its origin in the example.

The *origin* of a token is the part of the example that the token encodes: characters of one of its
turns, or a place of one of its images. Origins depend on neither the chat template nor the
tokenizer of a model, so that tokens of two models can be matched by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate

import torch
from torch import Tensor

from fedmosaic.data.example import IMAGE_MARK, Example, Turn
from fedmosaic.models.encoding import Encoder, TokenizedChat
from fedmosaic.models.turn_text import Span


class TokenKind(IntEnum):
    """Classify a token by its origin; the origin has three further numbers.

    | kind     | the token                                                | numbers              |
    |----------|----------------------------------------------------------|----------------------|
    | TEXT     | encodes text of a user's turn                            | turn, start, end     |
    | ANSWER   | encodes text of an assistant's turn                      | turn, start, end     |
    | IMAGE    | encodes a place of an image                              | image, place, places |
    | PREDICT  | is the last one before an answer; predicts its first one | turn, 0, 0           |
    | END      | is the end-of-sequence token of an assistant's turn      | turn, 0, 0           |
    | TEMPLATE | is anything else that the chat template writes           | 0, 0, 0              |
    """

    TEXT = 0
    ANSWER = 1
    IMAGE = 2
    PREDICT = 3
    END = 4
    TEMPLATE = 5


def token_origins(example: Example, encoder: Encoder, image_token_id: int | None) -> Tensor:
    """Return the origin of every token of ``encoder.encode(example)``.

    Turns and images are counted from 0. ``start`` and ``end`` count the characters of the turn
    *without* white space and image marks, because templates trim white space and tokenizers attach
    it to either side. A token of white space alone starts and ends at one place. Tokens that share
    a character (the bytes of one outside the vocabulary) have the same start and end.

    Args:
        example: The conversation.
        encoder: The model's encoder.
        image_token_id: Id of the token for a place of an image; None for a text-only model.

    Returns:
        int64 [tokens, 4]: the :class:`TokenKind` and its three numbers.

    Raises:
        ModelError: as ``encode``.
    """
    conversation = encoder.read(example)
    tokens = conversation.tokens
    characters = _Characters(example.turns, conversation)
    rows = [characters.origin(*span) for span in tokens.spans]
    _mark_images(rows, conversation, image_token_id)
    for turn, start, stop, ended in conversation.learned:
        if start:
            rows[start - 1] = [TokenKind.PREDICT, turn, 0, 0]
        if ended:
            rows[stop - 1] = [TokenKind.END, turn, 0, 0]
    if conversation.end:
        rows.append([TokenKind.END, len(example.turns) - 1, 0, 0])
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 4)


def _mark_images(rows: list[list[int]], conversation: TokenizedChat, token_id: int | None) -> None:
    """Write the image, the place in it and its number of places for the tokens of images."""
    tokens = conversation.tokens
    for image, (_, _, first, last) in enumerate(tokens.places):
        own = [
            index
            for index, (start, stop) in enumerate(tokens.spans)
            if first <= start and stop <= last and tokens.ids[index] == token_id
        ]
        for place, index in enumerate(own):
            rows[index] = [TokenKind.IMAGE, image, place, len(own)]


class _Characters:
    """Locate the characters of the expanded text of a conversation in its turns.

    Attributes:
        turn: Turn of each character; -1 outside all turns.
        rank: Number of counted characters of its turn before it.
        counted: The character is no white space.
    """

    def __init__(self, turns: Sequence[Turn], conversation: TokenizedChat) -> None:
        self.turns = turns
        tokens = conversation.tokens
        length = max((stop for _, stop in tokens.spans), default=0)
        self.turn, self.rank, self.counted = [-1] * length, [0] * length, [False] * length
        for span in conversation.rendered.spans:
            start = tokens.expanded(span.start)
            if span.turn < len(turns) and start + span.stop - span.start <= length:
                self._locate(span, start)

    def _locate(self, span: Span, start: int) -> None:
        text, stop = self.turns[span.turn].text, start + span.stop - span.start
        before = text[: span.offset].replace(IMAGE_MARK, "")
        counted = [
            not character.isspace()
            for character in text[span.offset : span.offset + span.stop - span.start]
        ]
        first = sum(not character.isspace() for character in before)
        self.turn[start:stop] = [span.turn] * (stop - start)
        self.rank[start:stop] = list(accumulate(counted, initial=first))[:-1]
        self.counted[start:stop] = counted

    def origin(self, start: int, end: int) -> list[int]:
        """Return the origin of a token that covers the characters ``start`` to ``end``."""
        covered = [at for at in range(start, end) if self.turn[at] >= 0 and self.counted[at]]
        if covered:
            first, last = covered[0], covered[-1]
            turn = self.turn[first]
            return [self._kind(turn), turn, self.rank[first], self.rank[last] + 1]
        if start < len(self.turn) and self.turn[start] >= 0:
            turn = self.turn[start]
            return [self._kind(turn), turn, self.rank[start], self.rank[start]]
        return [TokenKind.TEMPLATE, 0, 0, 0]

    def _kind(self, turn: int) -> TokenKind:
        return TokenKind.ANSWER if self.turns[turn].role == "assistant" else TokenKind.TEXT
