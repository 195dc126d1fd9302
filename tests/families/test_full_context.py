"""Test answers that reach the end of a model's context."""

from __future__ import annotations

import pytest

from fedmosaic.data import Example, Turn
from fedmosaic.evaluation.generation import generate
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.limits import context_length
from tests.families.conftest import Load


def nearly_full(model: Backbone, room: int) -> Example:
    """Return an example whose prompt leaves ``room`` tokens of the context."""
    longest, letters = context_length(model.text_config), 1
    assert longest is not None
    while True:
        example = Example("long", (Turn("user", "a" * letters), Turn("assistant", "b")))
        lacking = longest - room - len(model.encode(example, answer=False).input_ids)
        assert lacking >= 0
        if not lacking:
            return example
        letters += max(1, lacking // 2)


@pytest.mark.parametrize("name", ["gpt2", "opt", "mpt", "qwen2"])
def test_an_answer_ends_where_the_context_is_full(load: Load, name: str) -> None:
    """GPT-2 and OPT have no position beyond it, and MPT no bias of attention."""
    model = load(name)
    long, short = nearly_full(model, 3), Example("s", (Turn("user", "?"), Turn("assistant", "b")))
    expected = [
        *generate(model, model.model, [long], max_new_tokens=3),
        *generate(model, model.model, [short], max_new_tokens=9),
    ]
    assert generate(model, model.model, [long, short], max_new_tokens=9) == expected
