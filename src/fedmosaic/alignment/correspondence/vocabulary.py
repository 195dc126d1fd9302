"""How one vocabulary's tokens are said in another's, so that a next-token distribution can move between models.

A vocabulary map is a sparse matrix with at most one entry in each row, kept as a vector: the target token of each source token.
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
    """The number of logits, which may be more than the tokenizer has tokens."""
    return int(backbone.lm_head.out_features)  # type: ignore[arg-type]


def map_vocabulary(source: Backbone, target: Backbone, lead: int = 0) -> Tensor:
    """The target's token for each of the source's, int64 [source's logits]; -1 where there is none.

    The identity for equal vocabularies. Otherwise tokens are compared by the text they stand for, and a token of text t goes to

    1. the token of the same text;
    2. else the longest token that t begins with: it is how the target begins to write t;
    3. else the one token that begins with t, if there is just one: the target has only the whole of which t is a part.

    White space alone counts as such a beginning only for white space. A token that ends a turn goes to the other's; further
    special tokens have no counterpart.

    FedMKT (arXiv 2406.02224, appendix B) takes the token of least edit distance where there is none of the same text; among texts
    that do not begin alike that pairs words of unrelated meaning, and here they have no counterpart.

    Args:
        lead: for places where one model puts a space before the next word and the other does not, as sentencepiece does where a
            text begins. 1: the source has that space and the target not; -1: the other way round.
    """
    size = vocabulary_size(source)
    if lead == 0 and source.tokenizer.get_vocab() == target.tokenizer.get_vocab():
        return torch.arange(size).where(torch.arange(size) < vocabulary_size(target), NONE)
    texts = [_led(text, lead) for text in token_texts(source.tokenizer)]
    found = match_texts(texts, token_texts(target.tokenizer))
    mapped = torch.full((size,), NONE, dtype=torch.int64)
    known = min(size, len(texts))
    mapped[:known] = torch.tensor(
        [found.get(text, NONE) if text else NONE for text in texts[:known]]
    )
    mapped[source.tokenizer.eos_token_id] = target.tokenizer.eos_token_id
    return mapped


def match_texts(source: Sequence[bytes | None], target: Sequence[bytes | None]) -> dict[bytes, int]:
    """From each text among ``source`` to the index of its counterpart in ``target``, by the rules of :func:`map_vocabulary`.

    Texts without a counterpart are left out; of equal texts in ``target`` the first counts.
    """
    table: dict[bytes, int] = {}
    for index, text in enumerate(target):
        if text:
            table.setdefault(text, index)
    found: dict[bytes, int] = {}
    wholes: dict[bytes, list[int]] = {}
    for text in {text for text in source if text}:
        prefixes = (text[:end] for end in range(len(text), 0, -1))
        begun = next(
            (prefix for prefix in prefixes if prefix in table and _tells(prefix, text)), None
        )
        if begun is not None:
            found[text] = table[begun]
        else:
            wholes[text] = []
    for whole, index in table.items():
        for end in range(1, len(whole)):
            if whole[:end] in wholes:
                wholes[whole[:end]].append(index)
    return found | {part: indices[0] for part, indices in wholes.items() if len(indices) == 1}


def token_texts(tokenizer: Any) -> list[bytes | None]:
    """The text of each token as UTF-8 bytes, in order of ids.

    None for special tokens, ids without a token and byte tokens (``<0x61>``) of what has a token of its own (``a``). The three
    ways in which vocabularies mark words are undone: the bytes behind the letters of byte-level BPE (``Ġred``), sentencepiece's
    ``▁red``, and WordPiece's ``##red`` for what continues a word.
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
            known = all(letter in alphabet for letter in token)
            texts[index] = bytes(alphabet[letter] for letter in token) if known else token.encode()
        elif mark == "▁":
            byte = _byte_token(token)
            own = (
                byte is not None
                and byte.isascii()
                and byte.decode().replace(" ", "▁") in vocabulary
            )
            texts[index] = None if own else byte or token.replace("▁", " ").encode()
        else:
            texts[index] = token[2:].encode() if token.startswith("##") else f" {token}".encode()
    return texts


def _tells(beginning: bytes, text: bytes) -> bool:
    """Whether a beginning says something of the text: any does of white space, of words more than the space before them."""
    return bool(beginning.strip()) or not text.strip()


def _led(text: bytes | None, lead: int) -> bytes | None:
    """The text without the space before it (1) or with one more (-1); None where it cannot stand at such a place."""
    if text is None or lead == 0:
        return text
    if lead < 0:
        return b" " + text
    return text[1:] if text.startswith(b" ") else None


def _byte_token(token: str) -> bytes | None:
    return (
        bytes([int(token[3:5], 16)])
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        else None
    )


def _byte_alphabet() -> dict[str, int]:
    """The letter that stands for each byte in byte-level BPE: itself where it is printable, else one from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + n): byte for n, byte in enumerate(hidden)
    }
