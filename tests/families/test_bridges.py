"""Test that predictions go from any kind of tokenizer to any other.

The kinds are byte-level BPE, SentencePiece-like BPE with and without a leading blank, and unigrams.
"""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from fedmosaic.algorithms.common.token_bridge import Bridge, TokenizedPublicSet
from fedmosaic.alignment.correspondence.vocabulary import map_vocabulary, token_texts
from fedmosaic.data import Example, Turn, public_examples
from fedmosaic.training.distil import Predictions
from tests.families import LANGUAGE
from tests.families.conftest import Load
from tests.families.sample import ALL

KINDS = ("llama", "mistral", "gemma", "gpt2", "xglm")
PAIRS = [*permutations(KINDS, 2)]
if ALL:
    PAIRS += [(name, other) for name in LANGUAGE if name not in KINDS for other in KINDS]
PUBLIC = [
    *public_examples("synthetic/text", 4),
    Example("short", (Turn("user", "What colour is it?"), Turn("assistant", "red"))),
    Example("accents", (Turn("user", "Où?"), Turn("assistant", "naïve 日本 — yes"))),
]


@pytest.mark.parametrize(("name", "other"), PAIRS, ids=map("-".join, PAIRS))
def test_a_sure_prediction_of_the_labels_predicts_the_other_models_labels(
    load: Load, name: str, other: str
) -> None:
    source, target = (TokenizedPublicSet(load(one), PUBLIC) for one in (name, other))
    bridge = Bridge(source, target)
    labels = source.labels[:, None].int()
    found = bridge.map(Predictions(torch.ones(len(labels), 1), labels))
    assert bridge.matched > 0.5 and found.mapped == 1
    rows = bridge.rows_to
    assert torch.equal(found.predictions.tokens[rows, 0].long(), target.labels[rows])
    assert found.predictions.probabilities[rows].eq(1).all()
    assert found.predictions.probabilities.sum() == len(rows)


@pytest.mark.parametrize(("name", "other"), PAIRS, ids=map("-".join, PAIRS))
def test_corresponding_labels_begin_with_the_same_text(load: Load, name: str, other: str) -> None:
    source, target = (TokenizedPublicSet(load(one), PUBLIC) for one in (name, other))
    bridge = Bridge(source, target)
    texts = [token_texts(load(one).tokenizer) for one in (name, other)]
    own, others = source.labels[bridge.rows_from], target.labels[bridge.rows_to]
    for pair in zip(own.tolist(), others.tolist(), strict=True):
        one, two = ((own[i] or b"").lstrip() for own, i in zip(texts, pair, strict=True))
        assert one.startswith(two) or two.startswith(one)


@pytest.mark.parametrize(("name", "other"), PAIRS, ids=map("-".join, PAIRS))
def test_tokens_that_end_an_answer_are_mapped_to_the_other_models(
    load: Load, name: str, other: str
) -> None:
    source, target = load(name), load(other)
    mapped, end = map_vocabulary(source, target), target.encoder.answer("!")[-1]
    assert end in target.stop_tokens
    assert mapped[source.encoder.answer("!")[-1]] == end
    texts = token_texts(source.tokenizer)
    others = token_texts(target.tokenizer)
    for token, counterpart in enumerate(mapped[: len(texts)].tolist()):
        if counterpart >= 0 and token not in source.stop_tokens:
            one, two = texts[token], others[counterpart]
            if one and two:
                assert one.startswith(two) or two.startswith(one)
            else:  # a special token that both tokenizers have
                names = (source.tokenizer, token), (target.tokenizer, counterpart)
                assert len({own.convert_ids_to_tokens(number) for own, number in names}) == 1
