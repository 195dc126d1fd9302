"""Check pseudo-tasks and their random labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from traced import some_task

from fedmosaic.alignment.refinement.labels import draw_labels, principal_features
from fedmosaic.alignment.refinement.pseudo_tasks import (
    CONTRASTS,
    answerable_words,
    draw_pseudo_tasks,
)
from fedmosaic.data import public_examples
from fedmosaic.data.example import Example, Turn
from fedmosaic.models.backbone import Backbone


@pytest.fixture(scope="module")
def pivot() -> Backbone:
    return Backbone.load("miniature/llama-8x96")


@pytest.fixture(scope="module")
def public() -> list[Example]:
    return list(public_examples("miniature/public", 40, 0))


def test_pseudo_tasks_offer_words_and_are_drawn_by_their_seed(
    pivot: Backbone, public: list[Example]
) -> None:
    words = answerable_words(pivot, public, 0)
    assert len({pivot.answer_ids(word)[0] for word in words}) == len(words) > 100
    assert {"red", "yes", "two"} < set(words[:60])  # typical answers of this model
    tasks = draw_pseudo_tasks(public, words, 4, 10, 0)
    for task in tasks:
        assert (
            len(task.examples) == 10
            and task.options.shape == (10, 3)
            and int(task.options.max()) < task.words
        )
        assert len({len(example.images) for example in task.examples}) == 1
        assert all(len(set(row)) == 3 for row in task.options.tolist())
        for example in task.examples:
            assert set(example.options) <= set(words) and example.question.endswith(
                ", ".join(example.options)
            )
    texts = [[example.question for example in task.examples] for task in tasks]
    for seed in (0, 1):
        drawn = draw_pseudo_tasks(public, words, 4, 10, seed)
        same = texts == [[example.question for example in task.examples] for task in drawn]
        assert same == (seed == 0)


def test_pseudo_tasks_about_texts_quote_them(pivot: Backbone) -> None:
    texts = [
        Example(str(k), (Turn("user", f"the {k}th text of all"), Turn("assistant", "yes")))
        for k in range(20)
    ]
    (task,) = draw_pseudo_tasks(texts, answerable_words(pivot, texts, 0), 1, 16, 0)
    assert all("th text of all" in example.question for example in task.examples)


def test_labels_are_the_places_of_the_right_word() -> None:
    task = some_task()
    feature = torch.arange(64.0).remainder(4)[:, None] * 10
    labels = draw_labels(task, [feature], 20, np.random.default_rng(0))
    assert labels is not None and len(labels.support) == 20
    assert not set(labels.support.tolist()) & set(labels.query.tolist())
    words: dict[float, set[int]] = {}
    for index in [*labels.support.tolist(), *labels.query.tolist()]:
        word = int(task.options[index, labels.answers[index]])
        words.setdefault(float(feature[index]), set()).add(word)
    assert len(words) == 4 and all(len(found) == 1 for found in words.values())
    assert len(set.union(*words.values())) == 4


def test_targets_choose_the_right_option() -> None:
    labels = draw_labels(
        some_task(), [torch.arange(64.0).remainder(4)[:, None]], 20, np.random.default_rng(0)
    )
    assert labels is not None and labels.targets.shape == (20, 2)
    choices = (labels.targets @ CONTRASTS).argmax(1)
    assert choices.tolist() == labels.answers[labels.support].tolist()


def test_principal_features_are_centred_and_fall_in_size() -> None:
    rows = (
        torch.randn(50, 7, generator=torch.Generator().manual_seed(1)) * torch.arange(1.0, 8.0) + 5
    )
    found = principal_features(rows, 4)
    assert found.shape == (50, 4) and found.mean(0).abs().max() < 1e-4
    assert bool((found.norm(dim=0).diff() < 0).all())
