"""Where each token of an encoded conversation comes from: which characters of which turn, or which place of which image.

Told in terms of the *example*, not of the model's chat template or tokenizer, so that two models' tokens can be compared.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fedmosaic.data.example import Example, Turn
from fedmosaic.errors import ModelError
from fedmosaic.models.chat import Piece, pieces, render, widened

_PROBE = "\ue000"
"""A private-use character that no template treats in a special way; it marks where a turn's text goes."""


class Kind(IntEnum):
    """What a token is.

    | kind     | the token                                                                      | its further numbers        |
    |----------|--------------------------------------------------------------------------------|----------------------------|
    | TEXT     | text of a user's turn                                                          | turn, start, end           |
    | ANSWER   | text of an assistant's turn                                                    | turn, start, end           |
    | IMAGE    | a place of an image                                                            | image, place, places       |
    | PREDICT  | the last token before an assistant's turn: it predicts the answer's first token | turn, 0, 0                |
    | END      | the end-of-sequence token that closes an assistant's turn                      | turn, 0, 0                 |
    | TEMPLATE | anything else that the chat template writes                                    | 0, 0, 0                    |
    """

    TEXT = 0
    ANSWER = 1
    IMAGE = 2
    PREDICT = 3
    END = 4
    TEMPLATE = 5


def origins(example: Example, tokenizer: Any, image_token: str | None, image_tokens: int) -> Tensor:
    """Int64 [tokens, 4]: the :class:`Kind` and three numbers for every token of ``encode(example, …, answer=True)``.

    Turns and images are counted from 0. ``start`` and ``end`` of text count the turn's characters *without* white space
    and image marks, since templates trim and tokenizers attach spaces as they please; a token of white space alone starts
    and ends at one place. Tokens that share a character (bytes of one that is not in the vocabulary) share their span.

    Raises:
        ModelError: as ``encode``; or the tokenizer gives no character offsets (a slow one).
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} tells no character offsets, which alignment needs: use a fast tokenizer "
            "(a tokenizer.json beside the model)"
        )
    turns = widened(example, image_token, image_tokens)
    places = _Places(turns, image_token)
    rows: list[list[int]] = []
    image_id = tokenizer.convert_tokens_to_ids(image_token) if image_token is not None else None
    images = 0
    for piece in pieces(example, tokenizer, image_token, image_tokens):
        places.extend(piece, tokenizer)
        encoded = tokenizer(piece.text, add_special_tokens=False, return_offsets_mapping=True)
        found: list[list[int]] = []
        ids: list[int] = encoded["input_ids"]
        for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True):
            if token == image_id:
                found.append([Kind.IMAGE, *divmod(images, image_tokens), image_tokens])
                images += 1
            else:
                found.append(places.origin(start, end))
        if piece.spoken:
            closing = [Kind.END, piece.turn, 0, 0]
            if tokenizer.eos_token_id in ids:
                stop = ids.index(tokenizer.eos_token_id)
                found = [*found[:stop], closing, *([] if piece.last else found[stop + 1 :])]
            else:
                found.append(closing)
        elif found:
            found[-1] = [Kind.PREDICT, piece.turn, 0, 0]
        rows += found
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 4)


class _Places:
    """For every character of the current piece: the turn it belongs to, and how many of that turn's come before it."""

    def __init__(self, turns: list[Turn], image_token: str | None) -> None:
        self.turns = turns
        self.image_token = image_token
        self.next_turn = 0
        self.turn: list[int] = []
        self.rank: list[int] = []
        self.counts: list[bool] = []

    def extend(self, piece: Piece, tokenizer: Any) -> None:
        """Take the next piece: find the turns in it, each behind what the template writes before its text."""
        self.turn, self.rank, self.counts = (
            [-1] * len(piece.text),
            [0] * len(piece.text),
            [False] * len(piece.text),
        )
        stop = piece.turn + 1 if piece.spoken else piece.turn
        whole = render(tokenizer, self.turns[:stop], generation=not piece.spoken)
        offset = len(whole) - len(piece.text)
        for index in range(self.next_turn, stop):
            turn = self.turns[index]
            probe = render(
                tokenizer, [*self.turns[:index], Turn(turn.role, _PROBE)], generation=False
            )
            body = turn.text.strip()
            indent = len(turn.text) - len(turn.text.lstrip())
            begin = probe.find(_PROBE)
            # A template keeps the white space around a text, or trims it. A text that it rewrites stays unknown.
            start = next(
                (at for at in (begin, begin + indent) if begin >= 0 and whole.startswith(body, at)),
                None,
            )
            if start is not None:
                self._enter(index, body, start - offset)
        self.next_turn = stop

    def _enter(self, index: int, body: str, start: int) -> None:
        masked = (
            body.replace(self.image_token, " " * len(self.image_token))
            if self.image_token
            else body
        )
        counts = [not character.isspace() for character in masked]
        ranks = [0, *accumulate(counts)]
        stop = start + len(body)
        self.turn[start:stop] = [index] * len(body)
        self.rank[start:stop] = ranks[:-1]
        self.counts[start:stop] = counts

    def origin(self, start: int, end: int) -> list[int]:
        """Kind and numbers of a token that covers the characters ``start`` to ``end`` of the piece."""
        covered = [at for at in range(start, end) if self.turn[at] >= 0 and self.counts[at]]
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
        return [Kind.TEMPLATE, 0, 0, 0]

    def _kind(self, turn: int) -> Kind:
        return Kind.ANSWER if self.turns[turn].role == "assistant" else Kind.TEXT
