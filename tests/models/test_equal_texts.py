"""Test that examples of equal texts share their tokens, and only these."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from fedmosaic.data import Example, Image, Turn
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE, Encoded

RED, BLUE = (Image(np.full((32, 32, 3), value, np.uint8)) for value in (40, 200))


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """Return a model that counts what it encodes, in the attribute ``counted``."""
    model: Any = Backbone.load("miniature/llama-8x96")
    model.counted = []
    encode = model.encoder.encode

    def count(example: Example, answer: bool = True) -> Encoded:
        model.counted.append(example.id)
        found: Encoded = encode(example, answer)
        return found

    monkeypatch.setattr(model.encoder, "encode", count)
    backbone: Backbone = model
    return backbone


def example(name: str, *images: Image, question: str = "what colour?") -> Example:
    turns = (Turn("user", "<image>" * len(images) + question), Turn("assistant", "red"))
    return Example(name, turns, images, ("red", "blue"))


def counted(backbone: Any) -> list[str]:
    found: list[str] = backbone.counted
    return found


@pytest.mark.parametrize("answer", [True, False])
def test_tokens_are_those_of_each_by_itself(backbone: Backbone, answer: bool) -> None:
    one, other = example("one", RED), example("other", BLUE)
    first, second = backbone.encode(one, answer), backbone.encode(other, answer)
    assert counted(backbone) == ["one"]
    expected = Backbone.load("miniature/llama-8x96").encode(other, answer)
    assert second == expected and second.units == ((BLUE,),) and first.units == ((RED,),)
    assert second.input_ids is first.input_ids


def test_other_texts_and_numbers_of_images_are_encoded_anew(backbone: Backbone) -> None:
    several = [
        example("one", RED),
        example("two", RED, BLUE),
        example("other words", RED, question="which colour?"),
        example("no image"),
    ]
    found = [backbone.encode(each) for each in several]
    assert counted(backbone) == [each.id for each in several]
    assert len({each.input_ids.tobytes() for each in found}) == 4


def test_options_share_the_tokens_of_equal_questions(backbone: Backbone) -> None:
    several = [example("one", RED), example("other", BLUE)]
    for each in several:
        for option in each.options:
            item = backbone.encode_option(each, option)
            assert [unit[0] for unit in item.units] == list(each.images)
    assert counted(backbone) == ["one", "one"]


def test_of_several_answers_an_option_labels_the_last(backbone: Backbone) -> None:
    turns = [Turn("user", "a?"), Turn("assistant", "red"), Turn("user", "b?")]
    asked = Example("two", (*turns, Turn("assistant", "blue")), (), ("red", "blue"))
    both, last = backbone.encode(asked), backbone.encode_option(asked, "blue")
    assert both.input_ids == last.input_ids
    count = [sum(label != IGNORE for label in item.labels) for item in (both, last)]
    assert count == [4, 2]  # each answer and the end of its turn


def test_each_example_beyond_the_limits_is_named(backbone: Backbone) -> None:
    long = "what " * 5000
    for name in ("one", "other"):
        with pytest.raises(DataError, match=f"'{name}' has .* tokens"):
            backbone.encode(example(name, question=long))


def test_images_that_change_the_text_are_encoded_each(backbone: Backbone) -> None:
    backbone.images.alike = False  # type: ignore[union-attr]
    for name, image in (("one", RED), ("other", BLUE)):
        backbone.encode(example(name, image))
    assert counted(backbone) == ["one", "other"]


def test_nothing_is_held_longer_than_an_example(backbone: Backbone) -> None:
    one = example("one", RED)
    backbone.encode(one)
    assert len(backbone._texts._known) == 1
    del one
    gc.collect()
    assert len(backbone._texts._known) == 0
