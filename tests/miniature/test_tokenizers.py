"""Test the miniature tokenizers: any text, whole words, answers equal to options, templates."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from fedmosaic.data.example import Example, Image, Turn
from fedmosaic.errors import ModelError
from fedmosaic.miniature.pretraining.architectures import IMAGE_TOKENS
from fedmosaic.miniature.pretraining.batches import ConversationEncoder
from fedmosaic.miniature.pretraining.corpus import ANSWER_WORDS, VOCABULARY, Corpus, tokenizer_texts
from fedmosaic.miniature.pretraining.image_pairs import PicturePool
from fedmosaic.miniature.pretraining.scenes import draw_picture
from fedmosaic.miniature.pretraining.tokenizers import FAMILIES, build_tokenizer
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.encoding import Encoder, tokenize_text


@pytest.fixture(scope="module")
def pool():
    rng = random.Random(5)
    return PicturePool([draw_picture(rng) for _ in range(1500)])


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request, pool):
    return build_tokenizer(request.param, VOCABULARY, tokenizer_texts(pool, 0, count=1500))


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "text",
    ["what colour is it?", "Options: red, blick", "Zürich 42% naïve 日本 foo-bar  two", "a_b\n c"],
)
def test_any_text_survives_a_round_trip(tokenizer, text):
    decoded = tokenizer.decode(ids(tokenizer, text))
    assert decoded.removeprefix(" ") == text
    assert tokenizer.unk_token_id not in ids(tokenizer, text)


def test_every_answer_word_is_one_token_at_word_level_and_few_in_bytes(pool):
    words = build_tokenizer("llama", VOCABULARY, ())
    assert all(len(ids(words, word)) == 1 for word in ANSWER_WORDS)
    pairs = build_tokenizer("qwen2", (), tokenizer_texts(pool, 0, count=1500))
    lengths = [len(ids(pairs, word)) for word in ANSWER_WORDS]
    assert max(lengths) <= 5 and sum(lengths) / len(lengths) < 2


def test_an_answer_is_encoded_like_the_same_word_among_the_options(tokenizer):
    prompt = ids(tokenizer, "what is it? Options: blick, red")
    for word in ("blick", "red"):
        answer = ids(tokenizer, word)
        assert any(prompt[k : k + len(answer)] == answer for k in range(len(prompt)))


def test_families_have_templates_of_their_own(pool):
    texts = tokenizer_texts(pool, 0, count=200)
    turns = [{"role": "user", "content": "hi"}]
    rendered = {
        build_tokenizer(f, VOCABULARY, texts).apply_chat_template(turns, tokenize=False)
        for f in FAMILIES
    }
    assert len(rendered) == 2


def test_a_saved_tokenizer_reads_the_same(tokenizer, tmp_path: Path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "<image>is it red? Options: yes, no"},
            {"role": "assistant", "content": "no"},
        ],
        tokenize=False,
    )
    assert ids(loaded, text) == ids(tokenizer, text)
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.eos_token_id, loaded.pad_token_id) == (
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )


def test_pretraining_writes_conversations_as_federated_training_does(tokenizer, pool):
    corpus, encoder = Corpus(pool, random.Random(3)), ConversationEncoder(tokenizer)
    images = SimpleNamespace(
        image_token="<image>",
        tokenize=lambda text, images, special: tokenize_text(tokenizer, text, special),
    )
    expected = Encoder(ChatFormat("tiny", tokenizer, images), tokenizer, images)
    for k in range(60):
        item = corpus.conversation(k / 60)
        turns = tuple(
            turn for q, a in item.turns for turn in (Turn("user", q), Turn("assistant", a))
        )
        turns = tuple(
            Turn(turn.role, turn.text.replace("<image>", "<image>" * IMAGE_TOKENS))
            for turn in turns
        )
        pictures = tuple(Image(pool[index].pixels()) for index in item.images)
        wanted = expected.encode(Example(str(k), turns, pictures * IMAGE_TOKENS))
        got, labels = encoder.encode(item.images, item.turns)
        assert got == list(wanted.input_ids)
        assert labels == list(wanted.labels)


def test_conversations_stay_short(tokenizer, pool):
    corpus, encoder = Corpus(pool, random.Random(4)), ConversationEncoder(tokenizer)
    lengths = [
        len(encoder.encode(item.images, item.turns)[0])
        for item in (corpus.conversation(k / 400) for k in range(400))
    ]
    assert sum(lengths) / len(lengths) < 75


def test_unknown_family_is_refused_with_the_names():
    with pytest.raises(ModelError, match="llama"):
        build_tokenizer("lama", (), ())
