"""Trace each token of an encoded conversation to its origin in the example.

The *origin* of a token is the part of the example that the token encodes: characters of one of its
turns, or a place of one of its images. Origins depend on neither the chat template nor the
tokenizer of a model, so that tokens of two models can be matched by them.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fedmosaic.data.example import Example, Turn
from fedmosaic.errors import ModelError
from fedmosaic.models.chat import Segment, expand_images, render, split_segments

_PROBE = "\ue000"
"""Mark the place of a turn's text: a private-use character that no template treats specially."""


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


def token_origins(
    example: Example, tokenizer: Any, image_token: str | None, image_tokens: int
) -> Tensor:
    """Return the origin of every token of ``encode(example, ..., answer=True)``.

    Turns and images are counted from 0. ``start`` and ``end`` count the characters of the turn
    *without* white space and image marks, because templates trim white space and tokenizers attach
    it to either side. A token of white space alone starts and ends at one place. Tokens that share
    a character (the bytes of one outside the vocabulary) have the same start and end.

    Returns:
        int64 [tokens, 4]: the :class:`TokenKind` and its three numbers.

    Raises:
        ModelError: as ``encode``; or the tokenizer gives no character offsets (a slow one).
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} gives no character offsets, which alignment needs: use a "
            "fast tokenizer (a tokenizer.json beside the model)"
        )
    turns = expand_images(example, image_token, image_tokens)
    characters = _Characters(turns, image_token)
    image_id = tokenizer.convert_tokens_to_ids(image_token) if image_token is not None else None
    rows: list[list[int]] = []
    images = 0
    for segment in split_segments(example, tokenizer, image_token, image_tokens):
        characters.enter(segment, tokenizer)
        encoded = tokenizer(segment.text, add_special_tokens=False, return_offsets_mapping=True)
        found: list[list[int]] = []
        ids: list[int] = encoded["input_ids"]
        for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True):
            if token == image_id:
                found.append([TokenKind.IMAGE, *divmod(images, image_tokens), image_tokens])
                images += 1
            else:
                found.append(characters.origin(start, end))
        rows += _with_boundary(segment, found, ids, tokenizer.eos_token_id)
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 4)


def _with_boundary(
    segment: Segment, rows: list[list[int]], ids: list[int], eos: int
) -> list[list[int]]:
    """Mark the last token before an answer, or the end-of-sequence token of an answer."""
    if not segment.is_answer:
        return [*rows[:-1], [TokenKind.PREDICT, segment.turn, 0, 0]] if rows else []
    closing = [TokenKind.END, segment.turn, 0, 0]
    if eos not in ids:
        return [*rows, closing]
    stop = ids.index(eos)
    return [*rows[:stop], closing, *([] if segment.is_last else rows[stop + 1 :])]


class _Characters:
    """Locate the characters of one segment after another in the turns of the example.

    Attributes:
        turn: Turn of each character of the current segment; -1 outside all turns.
        rank: Number of counted characters of its turn before it.
        counted: The character is neither white space nor part of an image mark.
    """

    def __init__(self, turns: list[Turn], image_token: str | None) -> None:
        self.turns = turns
        self.image_token = image_token
        self.next_turn = 0
        self.turn: list[int] = []
        self.rank: list[int] = []
        self.counted: list[bool] = []

    def enter(self, segment: Segment, tokenizer: Any) -> None:
        """Go to the next segment and find the turns in it.

        Each turn is searched where the template writes a probe in its place.
        """
        length = len(segment.text)
        self.turn, self.rank, self.counted = [-1] * length, [0] * length, [False] * length
        stop = segment.turn + 1 if segment.is_answer else segment.turn
        whole = render(tokenizer, self.turns[:stop], generation=not segment.is_answer)
        offset = len(whole) - length
        for index in range(self.next_turn, stop):
            turn = self.turns[index]
            probe = render(
                tokenizer, [*self.turns[:index], Turn(turn.role, _PROBE)], generation=False
            )
            body = turn.text.strip()
            indent = len(turn.text) - len(turn.text.lstrip())
            begin = probe.find(_PROBE)
            # A template leaves the white space around a text, or trims it. A text that it rewrites
            # is not found.
            start = next(
                (at for at in (begin, begin + indent) if begin >= 0 and whole.startswith(body, at)),
                None,
            )
            if start is not None:
                self._locate(index, body, start - offset)
        self.next_turn = stop

    def _locate(self, index: int, body: str, start: int) -> None:
        masked = (
            body.replace(self.image_token, " " * len(self.image_token))
            if self.image_token
            else body
        )
        counted = [not character.isspace() for character in masked]
        ranks = [0, *accumulate(counted)]
        stop = start + len(body)
        self.turn[start:stop] = [index] * len(body)
        self.rank[start:stop] = ranks[:-1]
        self.counted[start:stop] = counted

    def origin(self, start: int, end: int) -> list[int]:
        """Return the origin of a token that covers the characters ``start`` to ``end``."""
        covered = [at for at in range(start, end) if self.turn[at] >= 0 and self.counted[at]]
        if covered:
            first, last = covered[0], covered[-1]
            return [
                self._kind(self.turn[first]),
                self.turn[first],
                self.rank[first],
                self.rank[last] + 1,
            ]
        if start < len(self.turn) and self.turn[start] >= 0:
            return [
                self._kind(self.turn[start]),
                self.turn[start],
                self.rank[start],
                self.rank[start],
            ]
        return [TokenKind.TEMPLATE, 0, 0, 0]

    def _kind(self, turn: int) -> TokenKind:
        return TokenKind.ANSWER if self.turns[turn].role == "assistant" else TokenKind.TEXT
