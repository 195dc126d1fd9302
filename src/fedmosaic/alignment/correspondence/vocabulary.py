"""Map the tokens of one vocabulary to another, so that next-token predictions can be exchanged.

A vocabulary map is a sparse matrix with at most one entry in each row. It is stored as a vector:
the target token of each source token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedmosaic.models.backbone import Backbone

NONE = -1
"""Stands for "no token" in a vocabulary map."""


def vocabulary_size(backbone: Backbone) -> int:
    """Return the number of logits, which may exceed the number of the tokenizer's tokens."""
    return int(backbone.lm_head.out_features)  # type: ignore[arg-type]


def map_vocabulary(source: Backbone, target: Backbone, space_shift: int = 0) -> Tensor:
    """Map every token of the source to a token of the target.

    Equal vocabularies give the identity. Otherwise a token with text t is mapped to the first of:

    1. the token with the same text;
    2. the longest token that is a prefix of t, with which the target begins to write t;
    3. the only token that has t as a prefix, if there is exactly one.

    A prefix of white space alone counts only for a text of white space alone. The tokens that
    end an answer of the source are mapped to the one that the target's chat template writes there.
    Other special tokens have no counterpart.

    FedMKT (arXiv 2406.02224, appendix B) takes the token at the smallest edit distance where no
    token has the same text. Among texts with different beginnings that pairs words of unrelated
    meaning; here they have no counterpart.

    Args:
        source: model whose tokens are mapped.
        target: model whose tokens they are mapped to.
        space_shift: for positions where only one of the models puts a space before the next word,
            as sentencepiece does at the beginning of a text. 1: only the source has that space.
            -1: only the target has it. 0: both or neither.

    Returns:
        int64 [logits of the source], the target's token ids; -1 where there is no counterpart.
    """
    size = vocabulary_size(source)
    own_end, end = (backbone.encoder.answer("!")[-1] for backbone in (source, target))
    if space_shift == 0 and source.tokenizer.get_vocab() == target.tokenizer.get_vocab():
        mapped = torch.arange(size).where(torch.arange(size) < vocabulary_size(target), NONE)
        mapped[own_end] = end  # one vocabulary, but templates with other tokens at the end
        return mapped
    texts = [_shift_space(text, space_shift) for text in token_texts(source.tokenizer)]
    found = match_texts(texts, token_texts(target.tokenizer))
    mapped = torch.full((size,), NONE, dtype=torch.int64)
    count = min(size, len(texts))
    mapped[:count] = torch.tensor(
        [found.get(text, NONE) if text else NONE for text in texts[:count]]
    )
    mapped[[token for token in source.stop_tokens if token < size]] = end
    return mapped


def match_texts(source: Sequence[bytes | None], target: Sequence[bytes | None]) -> dict[bytes, int]:
    """Map each text of ``source`` to the index of its counterpart in ``target``.

    The rules are those of :func:`map_vocabulary`. Texts without a counterpart are left out. Of
    equal texts in ``target`` the first counts.
    """
    table: dict[bytes, int] = {}
    for index, text in enumerate(target):
        if text:
            table.setdefault(text, index)
    found: dict[bytes, int] = {}
    continuations: dict[bytes, list[int]] = {}
    for text in {text for text in source if text}:
        prefixes = (text[:end] for end in range(len(text), 0, -1))
        prefix = next(
            (prefix for prefix in prefixes if prefix in table and _is_informative(prefix, text)),
            None,
        )
        if prefix is not None:
            found[text] = table[prefix]
        else:
            continuations[text] = []
    for whole, index in table.items():
        for end in range(1, len(whole)):
            if whole[:end] in continuations:
                continuations[whole[:end]].append(index)
    return found | {
        part: indices[0] for part, indices in continuations.items() if len(indices) == 1
    }


def token_texts(tokenizer: Any) -> list[bytes | None]:
    """Return the text of each token as UTF-8 bytes, in the order of token ids.

    The text is None for special tokens, for ids without a token, and for byte tokens (``<0x61>``)
    whose character has a token of its own (``a``). Three ways of marking words are undone: the
    letters that stand for bytes in byte-level BPE (``Ġred``), sentencepiece's ``▁red``, and
    WordPiece's ``##red`` for the continuation of a word.
    """
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    added = tokenizer.added_tokens_decoder
    marks = {mark: sum(token.startswith(mark) for token in vocabulary) for mark in ("Ġ", "▁", "##")}
    mark = max(marks, key=lambda mark: marks[mark])
    alphabet = _byte_alphabet()
    texts: list[bytes | None] = [None] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        if index in added:
            texts[index] = None if added[index].special else token.encode()
        elif not marks[mark]:
            texts[index] = token.encode()
        elif mark == "Ġ":
            is_bytes = all(letter in alphabet for letter in token)
            texts[index] = (
                bytes(alphabet[letter] for letter in token) if is_bytes else token.encode()
            )
        elif mark == "▁":
            byte = _byte_token(token)
            has_own_token = (
                byte is not None
                and byte.isascii()
                and byte.decode().replace(" ", "▁") in vocabulary
            )
            texts[index] = None if has_own_token else byte or token.replace("▁", " ").encode()
        else:
            texts[index] = token[2:].encode() if token.startswith("##") else f" {token}".encode()
    return texts


def _is_informative(prefix: bytes, text: bytes) -> bool:
    """Return whether a prefix holds more than the white space before a word."""
    return bool(prefix.strip()) or not text.strip()


def _shift_space(text: bytes | None, shift: int) -> bytes | None:
    """Remove the space before the text (1) or add one (-1); None if there is no space to remove."""
    if text is None or shift == 0:
        return text
    if shift < 0:
        return b" " + text
    return text[1:] if text.startswith(b" ") else None


def _byte_token(token: str) -> bytes | None:
    return (
        bytes([int(token[3:5], 16)])
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        else None
    )


def _byte_alphabet() -> dict[str, int]:
    """Map the letters of byte-level BPE to bytes.

    A printable byte is its own letter; the others are written with the letters from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + n): byte for n, byte in enumerate(hidden)
    }
