"""Check that tokens are mapped to tokens of the same text in another vocabulary."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import AddedToken
from torch import nn

from fedmosaic.alignment.correspondence.vocabulary import (
    NONE,
    map_vocabulary,
    match_texts,
    token_texts,
)
from fedmosaic.models.backbone import Backbone


class Words:
    """Stand for a tokenizer by its vocabulary; tokens in angle brackets are special."""

    def __init__(self, *tokens: str, special: tuple[str, ...] = ("<end>",)) -> None:
        self.vocabulary = {token: index for index, token in enumerate([*special, *tokens])}
        self.added_tokens_decoder = {
            index: AddedToken(token, special=True) for index, token in enumerate(special)
        }
        self.eos_token_id = 0

    def get_vocab(self) -> dict[str, int]:
        return dict(self.vocabulary)


def model(tokenizer: Any, spare: int = 0) -> Any:
    """Make the parts of a backbone that a map needs, with ``spare`` logits beyond the tokens."""
    size = len(tokenizer.get_vocab()) + spare
    end = tokenizer.eos_token_id
    return SimpleNamespace(
        tokenizer=tokenizer,
        lm_head=nn.Linear(1, size, device="meta"),
        encoder=SimpleNamespace(answer=lambda _: [end]),
        stop_tokens=[end],
    )


def pairs(source: Words, target: Words) -> dict[str, str | None]:
    names = {index: token for token, index in target.vocabulary.items()}
    mapped = map_vocabulary(model(source), model(target)).tolist()
    return {token: names.get(mapped[index]) for token, index in source.vocabulary.items()}


def test_the_marks_of_a_words_beginning_mean_the_same() -> None:
    byte_level, metaspace, pieces = (
        Words("Ġred", "red", "Ċ", "Ã©"),
        Words("▁red", "red", "\n", "é"),
        Words("red", "##red"),
    )
    assert pairs(byte_level, metaspace) == {
        "<end>": "<end>",
        "Ġred": "▁red",
        "red": "red",
        "Ċ": "\n",
        "Ã©": "é",
    }
    assert pairs(metaspace, byte_level) == {
        "<end>": "<end>",
        "▁red": "Ġred",
        "red": "red",
        "\n": "Ċ",
        "é": "Ã©",
    }
    assert pairs(byte_level, pieces) == {
        "<end>": "<end>",
        "Ġred": "red",
        "red": "##red",
        "Ċ": None,
        "Ã©": None,
    }


def test_a_longer_text_goes_to_its_longest_beginning_and_never_to_the_bare_space() -> None:
    target = Words("▁", "▁w", "▁ward", "d", "▁▁")
    assert pairs(Words("Ġwardrobe", "Ġwa", "Ġzoo", "dog", "zoo", "ĠĠĠ"), target) == {
        "<end>": "<end>", "Ġwardrobe": "▁ward", "Ġwa": "▁w", "Ġzoo": None,
        "dog": "d", "zoo": None, "ĠĠĠ": "▁▁",
    }  # fmt: skip


def test_a_beginning_goes_to_the_only_word_that_has_it() -> None:
    target = Words("▁wardrobe", "▁zebra", "▁zoo")
    assert pairs(Words("Ġward", "Ġz", "Ġze"), target) == {
        "<end>": "<end>", "Ġward": "▁wardrobe", "Ġz": None, "Ġze": "▁zebra",
    }  # fmt: skip


def test_byte_tokens_stand_for_what_has_no_token() -> None:
    texts = token_texts(Words("<0x61>", "<0x0A>", "<0x20>", "<0xC3>", "a", "▁b", "▁"))
    assert texts == [None, None, b"\n", None, b"\xc3", b"a", b" b", b" "]


def test_marks_of_other_schemes_are_text() -> None:
    """Byte-level vocabularies hold ``##`` (headings) too; the commonest mark decides."""
    assert token_texts(Words("Ġa", "Ġb", "##"))[-1] == b"##"
    assert token_texts(Words("▁a", "▁b", "Ġ"))[-1] == "Ġ".encode()
    assert token_texts(Words("a", "b")) == [None, b"a", b"b"]


def test_of_equal_texts_the_first_counts() -> None:
    assert match_texts([b"a"], [None, b"a", b"a"]) == {b"a": 1}


def test_ends_answer_to_one_another_and_other_special_tokens_to_nothing() -> None:
    source, target = (
        Words("a", special=("<stop>", "<image>")),
        Words("a", special=("<image>", "<stop>")),
    )
    target.eos_token_id = 1
    assert pairs(source, target) == {"<stop>": "<stop>", "<image>": None, "a": "a"}


def test_equal_vocabularies_are_the_identity_even_for_tokens_of_equal_text() -> None:
    words = Words("▁a", "a", "<0x61>", special=("<end>", "<image>"))
    assert torch.equal(
        map_vocabulary(model(words, spare=3), model(words, spare=3)), torch.arange(8)
    )
    assert map_vocabulary(model(words, spare=3), model(words)).tolist() == [
        0,
        1,
        2,
        3,
        4,
        NONE,
        NONE,
        NONE,
    ]


def test_spare_logits_have_no_counterpart() -> None:
    mapped = map_vocabulary(model(Words("▁a"), spare=2), model(Words("Ġa")))
    assert mapped.tolist() == [0, 1, NONE, NONE]


def test_the_two_miniature_families() -> None:
    llama, qwen = (
        Backbone.load(name) for name in ("miniature/llama-8x96", "miniature/qwen2-10x112")
    )
    there, back = map_vocabulary(llama, qwen), map_vocabulary(qwen, llama)
    ids = llama.tokenizer(" purple moon", add_special_tokens=False)["input_ids"]
    assert qwen.tokenizer.decode(there[ids].tolist()).strip() == "purple moon"
    assert back[there[ids]].tolist() == ids
    assert there[llama.tokenizer.eos_token_id] == qwen.tokenizer.eos_token_id
    assert (
        int((there == NONE).sum()) == 5 + 95
    )  # special tokens, and byte tokens of printable characters
    assert int((back == NONE).sum()) < 150
    assert int(there.max()) < 842 and int(back.max()) < 610
