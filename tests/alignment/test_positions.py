"""Which token answers to which: spans of text, places of images, prediction positions, across tokenizers and templates."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as cores
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fedmosaic.alignment.correspondence.positions import Matching, _cuts, match, match_origins, pool
from fedmosaic.data import Example, Image, Turn
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.chat import IGNORE, encode
from fedmosaic.models.token_origins import TokenKind, token_origins

CHATML = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = (
    "{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>assistant\n' }}{% endif %}"
)


def picture(seed: int) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 255, (60, 60, 3), dtype=np.uint8))


def example(*texts: str) -> Example:
    """Turns of user and assistant by turns, the assistant last; one picture a mark."""
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


def byte_level(template: str = CHATML, trim: bool = True) -> Any:
    """As GPT-2's and Qwen's: byte-level BPE with a few merges, offsets with or without the leading space."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("t", "h"),
        ("Ġ", "th"),
        ("Ġth", "e"),
        ("Ġ", "Ġ"),
        ("r", "e"),
        ("Ġ", "re"),
        ("i", "m"),
        ("Ċ", "a"),
    ]
    vocab = {
        token: index for index, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])
    }
    raw = Tokenizer(cores.BPE(vocab=vocab, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.ByteLevel(trim_offsets=trim)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|begin|>", "<|im_start|>", "<|im_end|>"])
    return fast(raw, template, "<|begin|>", "<|im_end|>")


def sentencepiece(template: str = TRIMMED) -> Any:
    """As Gemma's and GGUF files': spaces become U+2581 in the normaliser, unknown characters become bytes."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,;:?!_\n\t▁"
    tokens = [
        *letters,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁t",
        "▁th",
        "▁the",
        "▁r",
        "▁re",
        "▁red",
    ]
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "r"), ("▁r", "e"), ("▁re", "d")]
    raw = Tokenizer(
        cores.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=merges,
            byte_fallback=True,
        )
    )
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    raw.add_special_tokens(["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"])
    return fast(raw, template, "<bos>", "<eos>")


def fast(raw: Tokenizer, template: str, begin: str, end: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=begin, eos_token=end)
    tokenizer.chat_template = template
    return tokenizer


def plain(turn: Turn) -> str:
    """A turn's characters as origins count them."""
    return "".join(turn.text.replace("<image>", "").split())


def check_groups(
    matching: Matching, ids: tuple[list[int], list[int]], tables: tuple[Tensor, Tensor]
) -> None:
    """Numbered in reading order on both sides, none empty, kinds alike (text may be any mixture of one turn)."""
    for side, count, table in zip(
        (matching.first, matching.second), map(len, ids), tables, strict=True
    ):
        assert len(side) == count == len(table)
        used = side[side >= 0]
        assert used.unique().tolist() == list(range(matching.count))
        assert (used.diff() >= 0).all() or (table[:, 0] == TokenKind.IMAGE).any()
        assert torch.equal(table[side >= 0, 0], matching.kind[used])


def covered(matching: Matching, side: Tensor, table: Tensor) -> list[tuple[int, int, int]]:
    """Turn, first and last character of every group of text, from one side's tokens."""
    spans = []
    for group in range(matching.count):
        rows = table[side == group]
        if rows[0, 0] in (TokenKind.TEXT, TokenKind.ANSWER):
            spans.append((int(rows[0, 1]), int(rows[:, 2].min()), int(rows[:, 3].max())))
    return spans


def check_text(matching: Matching, tables: tuple[Tensor, Tensor], item: Example) -> None:
    """Both sides of each group are the same characters, and the groups cover every turn's text without a gap."""
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


def test_a_words_pieces_answer_to_the_word(llama: Backbone, qwen: Backbone) -> None:
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


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("name", ["turns", "template words"])
def test_byte_level_and_sentencepiece_with_templates_of_their_own(name: str, trim: bool) -> None:
    turns = tuple(
        Turn(turn.role, turn.text.replace("<image>", "the red, ")) for turn in EXAMPLES[name].turns
    )
    item = Example("e", turns)
    tokenizers = byte_level(trim=trim), sentencepiece()
    tables = tuple(token_origins(item, tokenizer, None, 0) for tokenizer in tokenizers)
    ids = tuple(encode(item, tokenizer, None, 0, True).input_ids for tokenizer in tokenizers)
    matching = match_origins(*tables)
    check_groups(matching, (ids[0], ids[1]), (tables[0], tables[1]))
    check_text(matching, (tables[0], tables[1]), item)
    for table in tables:
        assert (table[:, 0] == TokenKind.PREDICT).sum() == len(turns) // 2


def test_a_middle_turn_without_an_end_token_gets_one() -> None:
    item = example("a?", "b", "c?", "d")
    tokenizer = (
        sentencepiece()
    )  # its template ends turns with another token than the end of a sequence
    encoded = encode(item, tokenizer, None, 0, True)
    assert (
        len(encoded.labels)
        == len(encoded.input_ids)
        == len(token_origins(item, tokenizer, None, 0))
    )
    assert encoded.input_ids.count(tokenizer.eos_token_id) == 2
    assert encoded.labels.count(tokenizer.eos_token_id) == 2


def rows(*items: tuple[int, ...]) -> Tensor:
    return torch.tensor([[*item, *[0] * (4 - len(item))] for item in items])


def image(places: int, index: int = 0) -> list[tuple[int, ...]]:
    return [(TokenKind.IMAGE, index, place, places) for place in range(places)]


WORD = (TokenKind.TEXT, 0, 0, 4)


def sides(first: int, second: int) -> tuple[list[int], list[int]]:
    matching = match_origins(
        rows(*image(first), WORD), rows((TokenKind.TEMPLATE,), *image(second), WORD)
    )
    return matching.first[:-1].tolist(), matching.second[1:-1].tolist()


def test_the_coarser_grid_wins() -> None:
    assert sides(9, 4) == ([0, 1, 1, 2, 3, 3, 2, 3, 3], [0, 1, 2, 3])
    first, second = sides(16, 4)
    assert first == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3] and second == [0, 1, 2, 3]
    assert sides(4, 16) == (second, first)
    assert len(set(sides(576, 729)[0])) == 576


def test_class_tokens_answer_to_class_tokens() -> None:
    assert sides(10, 9) == ([-1, *range(9)], list(range(9)))
    assert sides(10, 5)[1] == [0, 1, 2, 3, 4]
    assert sides(10, 5)[0] == [0, 1, 2, 2, 3, 4, 4, 3, 4, 4]


def test_places_that_are_no_grid_lie_on_a_line() -> None:
    assert sides(6, 3) == ([0, 0, 1, 1, 2, 2], [0, 1, 2])
    assert sides(6, 4) == ([0, 1, 1, 2, 3, 3], [0, 1, 2, 3])
    assert sides(6, 6) == ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])


def test_images_answer_in_their_order() -> None:
    one = rows(*image(9, 0), *image(9, 1), WORD)
    two = rows(*image(4, 0), *image(4, 1), (TokenKind.TEMPLATE,), WORD)
    matching = match_origins(one, two)
    assert matching.count == 9
    assert matching.first[:9].max() == 3 and matching.first[9:18].min() == 4


def test_only_what_both_cut_is_a_boundary() -> None:
    # abc|de|f  against  ab|cde|f, with white space alone before the f and at the end
    one = rows((0, 0, 0, 3), (0, 0, 3, 5), (0, 0, 5, 5), (0, 0, 5, 6), (0, 0, 6, 6))
    two = rows((0, 0, 0, 2), (0, 0, 2, 5), (0, 0, 5, 6))
    matching = match_origins(one, two)
    assert matching.first.tolist() == [0, 0, 1, 1, 1] and matching.second.tolist() == [0, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=8))
def test_cuts_are_the_ends_that_lie_inside_no_span(drawn: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in drawn]
    ends = {place for span in spans for place in span}
    inside = {place for place in ends for start, end in spans if start < place < end}
    assert _cuts(spans) == sorted(ends - inside)


def test_a_span_of_any_length_takes_no_time() -> None:
    assert _cuts([(0, 1 << 60)]) == [0, 1 << 60]


def test_text_that_one_side_lacks_has_no_counterpart() -> None:
    matching = match_origins(rows((0, 0, 0, 2), (0, 0, 2, 4)), rows((0, 0, 0, 2), (0, 2, 0, 3)))
    assert matching.first.tolist() == [0, -1] and matching.second.tolist() == [0, -1]


def test_no_text_in_common_is_an_error() -> None:
    with pytest.raises(DataError, match="share no text"):
        match_origins(rows((0, 0, 0, 2), (3, 1)), rows((0, 2, 0, 2), (3, 1)))


def test_slow_tokenizers_are_refused(llama: Backbone) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="fast tokenizer"):
        token_origins(EXAMPLES["text"], Slow(), None, 0)


def test_pooling_is_the_mean_of_each_group() -> None:
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    groups = torch.tensor([1, -1, 0, 1, 1, -1])
    pooled = pool(values, groups, 2)
    assert torch.allclose(pooled, torch.stack((values[2], values[[0, 3, 4]].mean(0))))
    assert pool(values.bfloat16(), groups, 2).dtype == torch.float32
    assert pool(values.double(), groups, 2).dtype == torch.float64


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
