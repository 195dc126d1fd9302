"""Test synthetic public data: drawn from a seed, with true answers, readable by every model."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter

import numpy as np
import pytest

from fedmosaic.data import Example, public_examples
from fedmosaic.data.synthetic import synthetic_pictures, synthetic_texts
from fedmosaic.data.synthetic.pictures import COLOURS, PLACES, SHAPES
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone


def content(example: Example) -> tuple[object, ...]:
    return example.id, example.turns, example.options, tuple(image.key for image in example.images)


@pytest.mark.parametrize("ref", ["synthetic", "synthetic/text"])
def test_a_seed_names_the_set_and_a_longer_one_begins_with_the_shorter(ref: str) -> None:
    short, long, other = (
        public_examples(ref, 9),
        public_examples(ref, 30),
        public_examples(ref, 9, seed=1),
    )
    assert [content(example) for example in short] == [content(example) for example in long[:9]]
    assert not {example.turns for example in short} & {example.turns for example in other}
    assert len({example.turns for example in long}) == 30


def test_pictures_are_the_same_everywhere() -> None:
    digest = hashlib.blake2b(digest_size=8)
    for example in synthetic_pictures(14):
        for image in example.images:
            assert isinstance(image.source, np.ndarray)
            digest.update(image.source.tobytes())
    assert digest.hexdigest() == "74c4a6aae6cf8d34"


def test_pictures_show_what_is_said_about_them() -> None:
    asked = 0
    for example in synthetic_pictures(140):
        found = re.match(r"<image> What colour is the (.+) at the (.+)\?", example.question)
        if not found:
            continue
        asked += 1
        assert found[1] in SHAPES
        row, column = divmod(PLACES.index(found[2]), 3)
        pixels = example.images[0].source
        assert isinstance(pixels, np.ndarray) and pixels.shape == (128, 128, 3)
        cell = pixels[row * 43 : row * 43 + 42, column * 43 : column * 43 + 42].reshape(-1, 3)
        share = {name: (cell == colour).all(1).mean() for name, colour in COLOURS.items()}
        assert max(share, key=share.__getitem__) == example.answer and share[example.answer] > 0.05
    assert asked == 20


def test_kinds_and_sizes() -> None:
    examples = synthetic_pictures(70, size=60)
    assert Counter(len(example.images) for example in examples) == {1: 50, 2: 20}
    assert {image.load().size for example in examples for image in example.images} == {(60, 60)}
    with_options = [example for example in examples if example.options]
    assert 15 < len(with_options) < 50
    for example in with_options:
        assert (
            example.answer in example.options
            and len(set(example.options)) == len(example.options) > 1
        )
    text = synthetic_texts(50)
    assert not any(example.images for example in text)
    assert sum(len(example.turns) == 1 for example in text) == 10


def test_text_answers_are_right() -> None:
    for example in itertools.islice(synthetic_texts(200), 1, None, 5):
        one, two = map(int, re.findall(r"\d+", example.question))
        total = one + two if "plus" in example.question else one - two
        assert re.findall(r"\d+", example.answer) == [str(total)]


def test_models_read_them() -> None:
    for name in ("miniature/llama-8x96", "miniature/qwen2-10x112"):
        backbone = Backbone.load(name)
        for ref in ("synthetic", "synthetic/text"):
            examples = public_examples(ref, 10)
            batch = backbone.collate([backbone.encode(example) for example in examples])
            assert backbone.logits(backbone.model, batch).isfinite().all()


def test_nothing_is_not_a_set() -> None:
    with pytest.raises(DataError, match="at least one"):
        public_examples("synthetic", 0)
