"""Test that questions which share the tokens of their prompts are scored as each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from fedmosaic.adapters.inference import merged_weights
from fedmosaic.data import Example, Image, Turn, load_task
from fedmosaic.evaluation import shared_check
from fedmosaic.evaluation.likelihood import Questions, choose_by_likelihood
from fedmosaic.evaluation.shared_questions import SharedQuestions
from fedmosaic.evaluation.token_tree import plan_rows
from fedmosaic.models import packed
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions

LONG = "something that nobody would call a short answer, not even on a good day"


@pytest.fixture(scope="module", params=["miniature/llama-8x96", "miniature/qwen2-10x112"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return Backbone.load(request.param)


def asked(text: str, options: Sequence[str], images: Sequence[Image] = ()) -> Example:
    turns = (Turn("user", "<image>" * len(images) + text), Turn("assistant", options[0]))
    return Example(text, turns, tuple(images), tuple(options))


def questions() -> list[Example]:
    """Return questions with and without images, of one token and of several, short and long."""
    red, blue = (Image(np.full((32, 32, 3), value, np.uint8)) for value in (40, 200))
    other = Image(np.full((32, 32, 3), 40, np.uint8))  # another object, the same picture as red
    return [
        asked("What colour is it?", ("red", "blue", LONG)),
        asked("What colour is it?", ("red", LONG)),
        asked("What colour is the sea?", ("a", "b", "c")),
        asked("What shape is it?", ("square", "a red circle"), [red]),
        asked("What colour is it?", ("red", LONG), [red]),
        asked("What colour is it?", ("red", LONG), [blue]),
        asked("What colour is it?", ("blue", "red and blue"), [other]),
        asked("Which is red?", ("the first", "the second one"), [red, blue]),
        asked("Which is red?", ("the first", "the second one"), [blue, red]),
        *load_task("miniature/wardrobe-0", test_limit=3).test,
    ]


def assert_equal(backbone: Backbone, examples: Sequence[Example], **settings: Any) -> None:
    """Compare scores with those of each sequence by itself, and that all tokens were shared."""
    given = {"batch_size": 4, **settings}
    plain = Questions(backbone, examples, fast=False, **given)
    fast = Questions(backbone, examples, **given)
    expected, found = plain.scores(backbone.model), fast.scores(backbone.model)
    assert [isinstance(part, SharedQuestions) for _, part in fast._shared] == [True] * len(
        fast._shared
    )
    for one, other in zip(expected, found, strict=True):
        differences = torch.tensor(one) - torch.tensor(other)
        assert float(differences.abs().max()) < 1e-5 * max(1.0, max(map(abs, one)))
    assert plain.choose(backbone.model) == fast.choose(backbone.model)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share tokens even where it does not pay."""
    monkeypatch.setattr("fedmosaic.evaluation.shared_questions.WORTHWHILE", 9.0)


@pytest.mark.parametrize("length", ["sum", "mean"])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_shared_scores_are_those_of_each_sequence(
    backbone: Backbone, always: None, length: str, batch_size: int
) -> None:
    assert_equal(backbone, questions(), length=length, batch_size=batch_size)


def test_one_question_and_none(backbone: Backbone, always: None) -> None:
    assert_equal(backbone, questions()[4:5], batch_tokens=16)
    assert choose_by_likelihood(backbone, backbone.model, [], 4, "sum") == []


def test_sharing_is_used_where_it_has_clearly_fewer_tokens(backbone: Backbone) -> None:
    several = asked("Here is a long question with many words, is it?", ("a b c", "b c d", "c d e"))
    kinds = [type(part) for _, part in Questions(backbone, [several], 4)._shared]
    assert kinds == [SharedQuestions]
    single = asked("What colour is the sea?", ("red", "blue"))
    assert SharedQuestions not in [type(p) for _, p in Questions(backbone, [single], 4)._shared]


def test_prompts_longer_than_a_window_are_scored_by_themselves(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = asked("What?", ("a", "b")), asked("What? " * 40, ("a", "b"))
    assert shared_check.may_share(backbone, short) and shared_check.may_share(backbone, long)
    monkeypatch.setattr(backbone.text_config, "sliding_window", 60, raising=False)
    assert shared_check.may_share(backbone, short) and not shared_check.may_share(backbone, long)


def test_models_whose_adapters_see_a_whole_sequence_share_nothing(backbone: Backbone) -> None:
    fast = Questions(backbone, questions()[:2], 4)
    model = backbone.fork()
    assert shared_check.takes_trees(model)
    model.model.mixes_tokens = True
    assert not shared_check.takes_trees(model)
    fast.scores(model)
    assert "_shared" not in vars(fast)


def test_rows_are_even_and_compute_each_token_once() -> None:
    draw = np.random.default_rng(0)
    keys = [np.concatenate([[7, 8, 9], draw.integers(0, 3, size)]) for size in range(1, 30)]
    (whole,) = (plan.make() for plan in plan_rows(keys, 10**6))
    prefixes = {tuple(key[: i + 1]) for key in keys for i in range(len(key))}
    assert len(whole) == len(prefixes)
    plans = plan_rows(keys, 60)
    rows = [plan.make() for plan in plans]
    assert [*map(len, rows)] == [*map(len, plans)]
    assert sorted(index for row in rows for index in row.paths) == list(range(len(keys)))
    assert len(rows) > 2 and min(map(len, rows)) * 2 > max(map(len, rows))
    for row in rows:
        for index, path in row.paths.items():
            tokens = [keys[owner][place] for owner, place in row.tokens[path]]
            assert tokens == list(keys[index])
            assert all(
                set(np.flatnonzero(row.seen[p])) == set(path[: i + 1]) for i, p in enumerate(path)
            )


def test_the_head_of_an_adapted_model_is_given_back(backbone: Backbone, always: None) -> None:
    head = backbone.lm_head
    choose_by_likelihood(backbone, backbone.model, questions()[2:3], 4, "sum")
    assert "forward" not in vars(head) and not head._forward_pre_hooks


def test_of_a_packed_head_only_the_options_are_computed(
    backbone: Backbone, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_suitable_processor", lambda: packed.HAS_OPS)
    head, single = backbone.lm_head, [asked("What?", ("red", "blue"))]
    choose_by_likelihood(backbone, backbone.model, single, 4, "sum")  # tries the model on texts
    with merged_weights(backbone.model):
        product = vars(head)["forward"]
        assert choose_by_likelihood(backbone, backbone.model, single, 4, "sum")
        assert vars(head)["forward"] is product and product.product is None
        choose_by_likelihood(backbone, backbone.model, questions()[:1], 4, "sum")
        assert vars(head)["forward"] is product and (product.product is not None) == packed.HAS_OPS
    assert "forward" not in vars(head) and not head._forward_pre_hooks


def test_scores_of_a_bfloat16_model_are_not_rounded(always: None) -> None:
    backbone = Backbone.load("miniature/llama-8x96", ModelOptions(dtype="bfloat16"))
    examples = [asked("What colour is the sea?", ("a", "b", "c")), *questions()[-3:]]
    plain = Questions(backbone, examples, 4, fast=False).scores(backbone.model)
    found = Questions(backbone, examples, 4).scores(backbone.model)
    for one, other in zip(plain, found, strict=True):
        torch.testing.assert_close(torch.tensor(other), torch.tensor(one), rtol=0.02, atol=0.1)
        rounded = torch.tensor(other).bfloat16().float()
        assert (rounded != torch.tensor(other)).any()
