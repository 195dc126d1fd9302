"""Check that predictions are mapped between models: positions by text, tokens by vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from torch import Tensor, nn

from fedmosaic.algorithms.common.token_bridge import Bridge, Bridges, TokenizedPublicSet, blend
from fedmosaic.data import public_examples
from fedmosaic.data.example import Example, Turn
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.training.distil import Predictions, label_logits, predict

END = "<end>"


class Reader:
    """Stand in for a backbone; ``cuts`` maps each answer to its tokens in ``vocabulary``."""

    def __init__(self, vocabulary: Sequence[str], cuts: dict[str, list[str]]) -> None:
        self.vocabulary = {token: index for index, token in enumerate([END, *vocabulary])}
        self.cuts = cuts
        self.lm_head = nn.Linear(1, len(self.vocabulary), device="meta")
        added = {0: AddedToken(END, special=True)}
        self.tokenizer = SimpleNamespace(
            get_vocab=lambda: self.vocabulary,
            added_tokens_decoder=added,
            eos_token_id=0,
            eos_token=END,
        )
        self.encoder = SimpleNamespace(answer=lambda _: [0])
        self.stop_tokens = [0]

    def encode(self, example: Example) -> Any:
        ids = [self.vocabulary[token] for token in [*self.cuts[example.answer], END]]
        return SimpleNamespace(labels=[-100, *ids])

    def token_origins(self, example: Example) -> Tensor:
        rows, place = [[TokenKind.PREDICT, 1, 0, 0]], 0
        for token in self.cuts[example.answer]:
            length = len(token.lstrip("▁Ġ"))
            rows.append([TokenKind.ANSWER, 1, place, place + length])
            place += length
        return torch.tensor([*rows, [TokenKind.END, 1, 0, 0]])

    def predict(self, *positions: dict[str, float]) -> Predictions:
        width = max(map(len, positions))
        padded = [[*row.items(), *[(END, 0.0)] * (width - len(row))] for row in positions]
        return Predictions(
            torch.tensor([[value for _, value in row] for row in padded]),
            torch.tensor(
                [[self.vocabulary[token] for token, _ in row] for row in padded],
                dtype=torch.int32,
            ),
        )

    def read(self, predictions: Predictions) -> list[dict[str, float]]:
        names = {index: token for token, index in self.vocabulary.items()}
        found = []
        for tokens, values in zip(
            predictions.tokens.tolist(), predictions.probabilities.tolist(), strict=True
        ):
            row: dict[str, float] = {}
            for token, value in zip(tokens, values, strict=True):
                if value:
                    row[names[token]] = row.get(names[token], 0.0) + value
            found.append(row)
        return found


def examples(*answers: str) -> list[Example]:
    return [
        Example(str(i), (Turn("user", "?"), Turn("assistant", answer)))
        for i, answer in enumerate(answers)
    ]


def bridge(source: Any, target: Any, *answers: str) -> Bridge:
    public = examples(*answers)
    return Bridge(TokenizedPublicSet(source, public), TokenizedPublicSet(target, public))


WORDS = Reader(
    ["▁wardrobe", "▁red", "▁zoo"],
    {"red wardrobe": ["▁red", "▁wardrobe"], "wardrobe": ["▁wardrobe"], "red": ["▁red"]},
)
PIECES = Reader(
    ["Ġward", "robe", "Ġred", "Ġr", "x"],
    {"red wardrobe": ["Ġred", "Ġward", "robe"], "wardrobe": ["Ġward", "robe"], "red": ["Ġred"]},
)


def test_positions_correspond_where_the_same_text_stands_before_them() -> None:
    to_pieces, to_words = (
        bridge(WORDS, PIECES, "red wardrobe", "red"),
        bridge(PIECES, WORDS, "red wardrobe", "red"),
    )
    # red | ward | robe | end, red | end
    assert (to_pieces.rows_from.tolist(), to_pieces.rows_to.tolist()) == (
        [0, 1, 2, 3, 4],
        [0, 1, 3, 4, 5],
    )
    assert (to_words.rows_from.tolist(), to_words.rows_to.tolist()) == (
        [0, 1, 3, 4, 5],
        [0, 1, 2, 3, 4],
    )
    assert to_pieces.matched == 5 / 6 and to_words.matched == 1.0


def test_tokens_map_to_their_counterparts_and_positions_without_one_stay_empty() -> None:
    predictions = WORDS.predict({"▁wardrobe": 0.7, "▁red": 0.2}, {END: 0.6, "▁red": 0.3})
    found = bridge(WORDS, PIECES, "wardrobe").map(predictions)
    assert PIECES.read(found.predictions) == [
        pytest.approx({"Ġward": 0.7, "Ġred": 0.2}), {}, pytest.approx({END: 0.6, "Ġred": 0.3}),
    ]  # fmt: skip
    assert found.mapped == 1.0


def test_the_label_maps_to_the_label() -> None:
    """Map ``Ġr``, which begins red, to a model that knows only the whole word and another."""
    words = Reader(["▁red", "▁rest"], {"red": ["▁red"]})
    letters = Reader(["Ġr", "ed"], {"red": ["Ġr", "ed"]})
    found = bridge(letters, words, "red").map(letters.predict({"Ġr": 0.9}, {"ed": 1.0}, {END: 1.0}))
    assert words.read(found.predictions) == [pytest.approx({"▁red": 0.9}), {END: 1.0}]


def test_tokens_without_a_counterpart_are_dropped_and_the_rest_is_normalised() -> None:
    target = Reader(["▁red", "▁blue"], {"red": ["▁red"]})
    predictions = WORDS.predict({"▁red": 0.4, "▁zoo": 0.5}, {"▁zoo": 1.0})
    found = bridge(WORDS, target, "red").map(predictions)
    # 0.1 belongs to unnamed tokens and stays unnamed: 0.2 of what is possible.
    assert target.read(found.predictions) == [pytest.approx({"▁red": 0.8}), {}]
    assert found.mapped == pytest.approx(0.4 / 1.9)


def test_a_leading_space_of_only_one_model_makes_no_difference() -> None:
    spaced = Reader(["▁yes", "▁no", "no"], {"yes": ["▁yes"]})
    plain = Reader(["yes", "Ġyes", "no", "Ġno", "Ġdo"], {"yes": ["yes"]})
    predictions = spaced.predict({"▁yes": 0.5, "▁no": 0.3, "no": 0.2}, {END: 1.0})
    assert plain.read(bridge(spaced, plain, "yes").map(predictions).predictions)[
        0
    ] == pytest.approx({"yes": 0.625, "no": 0.375})
    predictions = plain.predict({"yes": 0.5, "no": 0.3, "Ġno": 0.2}, {END: 1.0})
    assert spaced.read(bridge(plain, spaced, "yes").map(predictions).predictions)[
        0
    ] == pytest.approx({"▁yes": 0.625, "▁no": 0.375})


def test_invalid_predictions_of_a_client_are_ignored() -> None:
    tokens = torch.tensor([[2, 99, -5], [0, 2, 1]], dtype=torch.int32)
    predictions = Predictions(torch.tensor([[0.5, 0.25, 0.25], [-3.0, 8.0, 2.0]]), tokens)
    found = bridge(WORDS, WORDS, "red").map(predictions)
    assert WORDS.read(found.predictions) == [
        {"▁red": 1.0},
        pytest.approx({"▁red": 0.8, "▁wardrobe": 0.2}),
    ]


def test_models_that_read_alike_map_to_themselves() -> None:
    predictions = PIECES.predict({"Ġward": 0.5, "x": 0.25}, {"robe": 1.0}, {END: 0.125, "Ġr": 0.5})
    found = bridge(PIECES, PIECES, "wardrobe").map(predictions)
    assert (
        torch.equal(found.predictions.probabilities, predictions.probabilities)
        and found.mapped == 1.0
    )
    assert torch.equal(found.predictions.tokens, predictions.tokens)


def test_a_blend_is_the_mean_over_the_parts_that_predict() -> None:
    one = PIECES.predict({"Ġr": 0.5, "x": 0.25}, {})
    two = PIECES.predict({"Ġr": 0.5, END: 0.5}, {"x": 0.5})
    two = Predictions(
        torch.cat([two.probabilities, two.probabilities], 1), torch.cat([two.tokens, two.tokens], 1)
    )
    found = PIECES.read(blend([one, two], 6, 10))
    assert found == [pytest.approx({"Ġr": 0.75, END: 0.5, "x": 0.125}), pytest.approx({"x": 1.0})]
    assert PIECES.read(blend([one, two], 6, 1)) == [
        pytest.approx({"Ġr": 0.75}),
        pytest.approx({"x": 1.0}),
    ]
    distinct = blend([one, two], 6, 10).tokens
    assert all(len(set(row)) == 6 for row in distinct.tolist())


def test_the_miniatures_predictions_survive_the_mapping() -> None:
    """Compare with a loop over strings in float64, byte tokens aside, at every position."""
    public = public_examples("miniature/public", 10)
    llama, qwen = (
        Backbone.load(name) for name in ("miniature/llama-8x96", "miniature/qwen2-10x112")
    )
    server: Any = SimpleNamespace(
        backbone={"llama": llama, "qwen": qwen}.__getitem__, public=lambda: public
    )
    bridges = Bridges()
    there = bridges.between(server, "llama", "qwen")
    assert bridges.between(server, "llama", "qwen") is there
    predictions, _ = predict(partial(label_logits, llama.model, llama), llama, public, top_k=20)
    found = there.map(predictions)
    assert there.matched > 0.9 and found.mapped > 0.99
    words = llama.tokenizer.convert_ids_to_tokens(range(610))
    vocabulary = qwen.tokenizer.get_vocab()
    for source, target in zip(there.rows_from.tolist(), there.rows_to.tolist(), strict=True):
        expected: dict[int, float] = {}
        for token, p in zip(
            predictions.tokens[source].tolist(),
            predictions.probabilities[source].double().tolist(),
            strict=True,
        ):
            text = {"</s>": "<|end|>"}.get(words[token], words[token].replace("▁", "Ġ"))
            prefixes = [text[:end] for end in range(len(text), 0, -1) if text[:end] in vocabulary]
            if (
                prefixes
                and (prefixes[0] != "Ġ" or text == "Ġ")
                and not words[token].startswith("<0x")
            ):
                expected[vocabulary[prefixes[0]]] = expected.get(vocabulary[prefixes[0]], 0.0) + p
        missing = float(predictions.probabilities[source].double().sum()) - sum(expected.values())
        dense = torch.zeros(842).scatter_add(
            0, found.predictions.tokens[target].long(), found.predictions.probabilities[target]
        )
        for token, p in expected.items():
            assert float(dense[token]) == pytest.approx(p / (1 - missing), abs=1e-4)
        assert float(dense.sum()) == pytest.approx(sum(expected.values()) / (1 - missing), abs=1e-4)
