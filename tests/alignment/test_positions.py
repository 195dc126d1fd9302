"""Check which tokens of two models correspond, across tokenizers and templates."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from small_tokenizers import byte_level, sentencepiece
from torch import Tensor

from fedmosaic.alignment.correspondence.positions import Matching, match, match_origins
from fedmosaic.data import Example, Image, Turn
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.encoding import IGNORE, Encoder
from fedmosaic.models.token_origins import TokenKind, token_origins


def picture(seed: int) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 255, (60, 60, 3), dtype=np.uint8))


def example(*texts: str) -> Example:
    """Make an example of alternating turns, the assistant last; one image for each mark."""
    roles = ("user", "assistant") if len(texts) % 2 == 0 else ("assistant", "user")
    turns = tuple(Turn(roles[index % 2], text) for index, text in enumerate(texts))  # type: ignore[arg-type]
    return Example(
        "e", turns, tuple(picture(k) for k in range(sum(text.count("<image>") for text in texts)))
    )


EXAMPLES = {
    "question": example("<image> what colour is it? Options: red,  blue", "red"),
    "two images": example(
        "<image><image>same shape?\n<image> and naïve 日本 🙂x?", "not at all, zyx"
    ),
    "turns": example(
        "which one?",
        "the first",
        "  <image>\nare you\tsure? \n",
        " yes \U0001f468‍\U0001f469‍\U0001f467",
    ),
    "text": example("A plain text, with nobody asking; a b  c."),
    "template words": example("us", "a"),
}


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return Backbone.load("miniature/llama-8x96")


@pytest.fixture(scope="module")
def qwen() -> Backbone:
    return Backbone.load("miniature/qwen2-10x112")


def plain(turn: Turn) -> str:
    """Return a turn's characters as origins count them."""
    return "".join(turn.text.replace("<image>", "").split())


def check_groups(
    matching: Matching, ids: tuple[list[int], list[int]], tables: tuple[Tensor, Tensor]
) -> None:
    """Check that groups are in reading order, not empty, and of one kind on both sides."""
    for side, count, table in zip(
        (matching.first, matching.second), map(len, ids), tables, strict=True
    ):
        assert len(side) == count == len(table)
        used = side[side >= 0]
        assert used.unique().tolist() == list(range(matching.count))
        assert (used.diff() >= 0).all() or (table[:, 0] == TokenKind.IMAGE).any()
        assert torch.equal(table[side >= 0, 0], matching.kind[used])


def covered(matching: Matching, side: Tensor, table: Tensor) -> list[tuple[int, int, int]]:
    """List turn, first and last character of every group of text on one side."""
    spans = []
    for group in range(matching.count):
        rows = table[side == group]
        if rows[0, 0] in (TokenKind.TEXT, TokenKind.ANSWER):
            spans.append((int(rows[0, 1]), int(rows[:, 2].min()), int(rows[:, 3].max())))
    return spans


def check_text(matching: Matching, tables: tuple[Tensor, Tensor], item: Example) -> None:
    """Check that both sides of a group have the same text, and that groups leave no gap."""
    spans = covered(matching, matching.first, tables[0])
    assert spans == covered(matching, matching.second, tables[1])
    for index, turn in enumerate(item.turns):
        edges = [(start, end) for where, start, end in spans if where == index]
        assert edges[0][0] == 0 and edges[-1][1] == len(plain(turn))
        assert all(left[1] == right[0] for left, right in itertools.pairwise(edges))


@pytest.mark.parametrize("item", EXAMPLES.values(), ids=EXAMPLES)
def test_two_families_share_every_character(llama: Backbone, qwen: Backbone, item: Example) -> None:
    for a, b in ((llama, qwen), (qwen, llama)):
        matching = match(a, b, item)
        tables = a.token_origins(item), b.token_origins(item)
        check_groups(matching, (a.encode(item).input_ids, b.encode(item).input_ids), tables)
        check_text(matching, tables, item)


@pytest.mark.parametrize("item", EXAMPLES.values(), ids=EXAMPLES)
def test_one_tokenizer_is_the_identity(llama: Backbone, item: Example) -> None:
    other = copy.copy(llama)
    matching = match(llama, other, item)
    every = torch.arange(len(llama.encode(item).input_ids))
    assert torch.equal(matching.first, every) and torch.equal(matching.second, every)
    assert matching.count == len(every)


def test_the_pieces_of_a_word_correspond_to_the_word(llama: Backbone, qwen: Backbone) -> None:
    item = EXAMPLES["question"]
    matching = match(llama, qwen, item)
    for word in ("▁what", "▁colour", "▁blue"):
        at = llama.encode(item).input_ids.index(llama.tokenizer.convert_tokens_to_ids(word))
        pieces = [
            token
            for token, group in zip(qwen.encode(item).input_ids, matching.second, strict=True)
            if group == matching.first[at]
        ]
        assert qwen.tokenizer.decode(pieces).strip() == word[1:]


def test_origins_are_of_the_tokens_that_are_encoded(llama: Backbone, qwen: Backbone) -> None:
    for backbone in (llama, qwen):
        for item in EXAMPLES.values():
            encoded, table = backbone.encode(item), backbone.token_origins(item)
            learned = torch.tensor([label != IGNORE for label in encoded.labels])
            assert torch.equal(
                learned, torch.isin(table[:, 0], torch.tensor([TokenKind.ANSWER, TokenKind.END]))
            )
            image = torch.tensor(encoded.input_ids) == backbone.image_token_id
            assert torch.equal(image, table[:, 0] == TokenKind.IMAGE)
            assert table[image, 1:3].tolist() == [
                [k // 9, k % 9] for k in range(9 * len(item.images))
            ]


def test_the_token_that_predicts_an_answer_has_a_counterpart(
    llama: Backbone, qwen: Backbone
) -> None:
    item = EXAMPLES["turns"]
    matching = match(llama, qwen, item)
    for backbone, side in ((llama, matching.first), (qwen, matching.second)):
        labels = torch.tensor(backbone.encode(item).labels)
        begins = (labels[1:] != IGNORE) & (labels[:-1] == IGNORE)
        assert (matching.kind[side[:-1][begins]] == TokenKind.PREDICT).all() and begins.sum() == 2
        ends = torch.tensor(backbone.encode(item).input_ids) == backbone.tokenizer.eos_token_id
        assert (matching.kind[side[ends & (labels != IGNORE)]] == TokenKind.END).all()
        expected = torch.isin(
            matching.kind, torch.tensor([TokenKind.ANSWER, TokenKind.PREDICT, TokenKind.END])
        )
        assert torch.equal(matching.answer, expected)


def encoder(tokenizer: Any) -> Encoder:
    return Encoder(ChatFormat("tiny", tokenizer), tokenizer)


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("name", ["turns", "template words"])
def test_byte_level_and_sentencepiece_with_templates_of_their_own(name: str, trim: bool) -> None:
    turns = tuple(
        Turn(turn.role, turn.text.replace("<image>", "the red, ")) for turn in EXAMPLES[name].turns
    )
    item = Example("e", turns)
    tokenizers = byte_level(trim=trim), sentencepiece()
    encoders = tuple(map(encoder, tokenizers))
    tables = tuple(token_origins(item, each, None) for each in encoders)
    ids = tuple(each.encode(item).input_ids for each in encoders)
    matching = match_origins(*tables)
    check_groups(matching, (ids[0], ids[1]), (tables[0], tables[1]))
    check_text(matching, (tables[0], tables[1]), item)
    for table in tables:
        assert (table[:, 0] == TokenKind.PREDICT).sum() == len(turns) // 2


def test_the_token_that_the_template_writes_ends_a_turn() -> None:
    """End turns as the template does, here with another token than the end of a sequence."""
    item = example("a?", "b", "c?", "d")
    tokenizer = sentencepiece()
    encoded, origins = (
        encoder(tokenizer).encode(item),
        token_origins(item, encoder(tokenizer), None),
    )
    assert len(encoded.labels) == len(encoded.input_ids) == len(origins)
    messages = [{"role": turn.role, "content": turn.text} for turn in item.turns]
    own = tokenizer.apply_chat_template(messages, return_dict=False)
    assert list(encoded.input_ids) == own and tokenizer.eos_token_id not in own
    ends = origins[:, 0] == TokenKind.END
    assert ends.sum() == 2 and len(set(torch.tensor(encoded.labels)[ends].tolist())) == 1


def test_slow_tokenizers_are_refused(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = copy.copy(llama.tokenizer)
    monkeypatch.setattr(type(slow), "is_fast", False)
    with pytest.raises(ModelError, match=rf"tokenizer of {slow.name_or_path} .*fast tokenizer"):
        token_origins(EXAMPLES["text"], encoder(slow), None)


def test_selecting_groups_numbers_them_anew(llama: Backbone, qwen: Backbone) -> None:
    matching = match(llama, qwen, EXAMPLES["question"])
    answers = matching.select(matching.answer)
    assert answers.count == int(matching.answer.sum()) == 3
    assert (answers.first >= 0).sum() == 3 and set(answers.first.tolist()) == {-1, 0, 1, 2}
    assert answers.kind.tolist() == [TokenKind.PREDICT, TokenKind.ANSWER, TokenKind.END]


def test_origins_travel_as_json(llama: Backbone, qwen: Backbone) -> None:
    item = EXAMPLES["two images"]
    published = json.loads(json.dumps(qwen.token_origins(item).tolist()))
    received = match_origins(llama.token_origins(item), torch.tensor(published))
    local = match(llama, qwen, item)
    assert torch.equal(received.first, local.first) and torch.equal(received.second, local.second)
