"""Test that the fast evaluation of every family gives the scores of the plain one.

A family whose tokens cannot be shared says so and evaluates each sequence by itself. The default
suite takes a sample; ``FEDMOSAIC_ALL_FAMILIES=1`` takes every family.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from fedmosaic.adapters.inference import merged_weights
from fedmosaic.data import Example, Image, Turn
from fedmosaic.evaluation import shared_check
from fedmosaic.evaluation.likelihood import Questions
from fedmosaic.evaluation.shared_questions import SharedQuestions
from fedmosaic.models.backbone import Backbone
from tests.families import LANGUAGE, VISION
from tests.families.conftest import Load
from tests.families.examples import ONE, OTHER
from tests.families.sample import sample

REFUSED = {"mllama", "idefics2"}  # cannot be loaded or encode images
NAMES = sample(
    [name for name in (*VISION, *LANGUAGE) if name not in REFUSED],
    *("llava_llama", "llava_qwen2_siglip", "llava_onevision", "qwen2_vl", "qwen3_vl", "internvl"),
    *("smolvlm", "gemma3", "paligemma", "pixtral"),
    *("llama", "qwen2", "mistral", "gpt2", "gemma3_text", "gpt_oss", "mamba", "qwen2_moe"),
)
OPTIONS = (("red", "blue", "a colour that has no name"), ("one", "two of them", "three"))


def asked(text: str, options: Sequence[str], images: Sequence[Image] = ()) -> Example:
    turns = (Turn("user", "<image>" * len(images) + text), Turn("assistant", options[0]))
    return Example(text, turns, tuple(images), tuple(options))


def questions(model: Backbone) -> list[Example]:
    """Return questions that begin alike, with the images that the family takes."""
    texts = ("What is it?", "What is it called?", "How many birds?")
    found = [asked(text, options) for text in texts for options in OPTIONS]
    if model.images is None:
        return found
    seeing = [asked(text, OPTIONS[0], [image]) for text in texts for image in (ONE, OTHER)]
    return seeing if "paligemma" in model.name else found + seeing


@pytest.mark.filterwarnings("ignore:model .* cannot share")
@pytest.mark.parametrize("name", NAMES)
def test_fast_scores_are_the_plain_ones(
    load: Load, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fedmosaic.evaluation.shared_questions.WORTHWHILE", 9.0)
    backbone = load(name)
    model, examples = backbone.model, questions(backbone)
    plain, fast = (Questions(backbone, examples, 4, fast=fast) for fast in (False, True))
    expected = plain.scores(model)
    with merged_weights(model, fuse=True):
        for _ in range(2):
            assert_close(expected, fast.scores(model))
        assert plain.choose(model) == fast.choose(model)


def assert_close(expected: list[list[float]], found: list[list[float]]) -> None:
    """Compare scores, each with that of the first option, which one of them may leave out."""
    for one, other in zip(expected, found, strict=True):
        differences = [abs(a - one[0] - b + other[0]) for a, b in zip(one, other, strict=True)]
        assert max(differences) < 1e-5 * max(1.0, *map(abs, one))


@pytest.mark.parametrize("images", [False, True], ids=["texts", "images"])
def test_a_family_whose_numbers_differ_says_so_and_shares_nothing(
    load: Load, monkeypatch: pytest.MonkeyPatch, images: bool
) -> None:
    monkeypatch.setattr("fedmosaic.evaluation.shared_questions.WORTHWHILE", 9.0)
    monkeypatch.setattr(shared_check, "_found", {})
    scored: Any = shared_check._scored_as_trees
    monkeypatch.setattr(
        shared_check, "_scored_as_trees", lambda *given: [x + 1e-2 for x in scored(*given)]
    )
    backbone = load("llava_llama")
    examples = [one for one in questions(backbone) if bool(one.images) == images]
    fast = Questions(backbone, examples, 4)
    kind = "images and prompts" if images else "share what prompts"
    with pytest.warns(UserWarning, match=kind):
        found = fast.scores(backbone.model)
    assert not any(isinstance(part, SharedQuestions) for _, part in fast._shared)
    assert found == Questions(backbone, examples, 4, fast=False).scores(backbone.model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so once
        Questions(backbone, examples, 4).scores(backbone.model)


def test_a_family_that_refuses_the_masks_shares_nothing(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> Any:
        raise TypeError("no such mask")

    monkeypatch.setattr(shared_check, "_found", {})
    monkeypatch.setattr(shared_check, "_scored_as_trees", refuse)
    backbone = load("llama")
    with pytest.warns(UserWarning, match="evaluates each of them by itself"):
        assert not shared_check.may_share(backbone, asked("What?", ("a", "b")))
