"""Test the signatures of vision-language families on pictures against the plain gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from signature_models import by_autograd, error

from fedmosaic.data.example import Example, Image, Turn
from fedmosaic.models.backbone import Backbone
from fedmosaic.relevance import signature_model
from tests.families import VISION, build

# Refused as a whole: image features cannot be computed beforehand, or are not found in the text.
REFUSED = ("mllama", "idefics2")
BY_AUTOGRAD = ("gemma3", "aya_vision", "gemma4", "glm4v", "aria")


def example(number: int, answer: str) -> Example:
    pixels = np.random.default_rng(number).integers(0, 255, (56 + 8 * number, 64, 3), np.uint8)
    turns = (Turn("user", "<image> What is it?"), Turn("assistant", answer))
    return Example(f"e{number}", turns, (Image(pixels),))


@pytest.mark.parametrize("family", [name for name in VISION if name not in REFUSED])
def test_equals_autograd_on_pictures(family: str, tmp_path: Path) -> None:
    shared = Backbone.load(str(build(family, tmp_path / family)))
    examples = [example(0, "a cat"), example(1, "two cats and a dog")]
    data = shared.collate([shared.encode(one) for one in examples])
    model = signature_model(shared, keep=0.4, seed=5)
    assert model.method == ("autograd" if family in BY_AUTOGRAD else "closed form")
    expected = by_autograd(shared, data)[model.rows].flatten()
    assert error(model.gradient(data), expected) < 1e-5
