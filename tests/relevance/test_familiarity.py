"""Test which inputs resemble a client's own prompts, and the features that are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fedmosaic.data.example import Example, Turn
from fedmosaic.errors import DataError
from fedmosaic.federation.experts_card import ROUTER
from fedmosaic.miniature.benchmark.load import load_task
from fedmosaic.models.backbone import Backbone
from fedmosaic.relevance.familiarity import Familiarity
from fedmosaic.relevance.prompt_features import MOST_MEDIANS, PromptFeatures, clip_massive

SMALL = "miniature/llama-8x96"


@pytest.mark.parametrize("quantile", [0.5, 0.9, 1.0])
def test_familiarity_equals_its_formula(quantile: float) -> None:
    draw = torch.Generator().manual_seed(0)
    own, new = torch.randn(40, 6, generator=draw), 2 * torch.randn(30, 6, generator=draw)
    found = Familiarity.of(own, quantile)(new)

    a, b = own.double().numpy(), new.double().numpy()
    a, b = (a - a.mean(0)) / a.std(0, ddof=1), (b - a.mean(0)) / a.std(0, ddof=1)
    nearest = [
        min(np.linalg.norm(x - y) for j, y in enumerate(a) if j != i) for i, x in enumerate(a)
    ]
    limit = np.quantile(nearest, quantile, method="higher")
    expected = [min(np.linalg.norm(x - y) for y in a) <= limit for x in b]
    assert found.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_own_prompts_are_familiar_and_nothing_is_to_who_has_none() -> None:
    own = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    assert Familiarity.of(own)(own).all()
    assert not Familiarity.of(own[:1])(own).any()
    assert not Familiarity.of(own[:0])(own).any()


def test_a_constant_feature_does_not_divide_by_zero() -> None:
    own = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    own[:, 2] = 3.0
    assert Familiarity.of(own)(own).all()


def test_at_most_so_many_prompts_are_compared() -> None:
    own = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    found = Familiarity.of(own, limit=10)
    assert len(found.own) == 10
    assert torch.equal(found.own, Familiarity.of(own[[0, 5, 11, 16, 22, 27, 33, 38, 44, 49]]).own)


@pytest.mark.parametrize(("depth", "layer"), [(1.0, 8), (0.5, 4), (0.01, 1)])
def test_features_are_the_hidden_states_of_the_prompt(depth: float, layer: int) -> None:
    backbone = Backbone.load(SMALL)
    examples = list(load_task("miniature/stages-0", seed=0, train_limit=3).train)
    found = PromptFeatures(backbone, depth=depth)(examples)
    for row, example in zip(found, examples, strict=True):
        batch = backbone.collate([backbone.encode(example, answer=False)])
        output = backbone.model(**batch.inputs, output_hidden_states=True)
        states = output.hidden_states[layer][0]
        parts = [states.mean(0), states[-1]]
        unit = torch.cat([part / part.norm() for part in parts]) / 2**0.5
        torch.testing.assert_close(row, unit)
    means, lasts = (PromptFeatures(backbone, part, depth)(examples) for part in ("mean", "last"))
    torch.testing.assert_close(found, torch.cat([means, lasts], 1) / 2**0.5)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))


def massive(tokens: int, width: int = 64) -> torch.Tensor:
    """Return states with two massive activations: one at every token, one at the first alone."""
    states = torch.randn(tokens, width, generator=torch.Generator().manual_seed(tokens))
    states[:, 3] = 500.0
    states[0, 7] = -4000.0
    return states


def test_massive_activations_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    features = PromptFeatures(Backbone.load(SMALL))
    examples = list(load_task("miniature/stages-0", seed=0, train_limit=2).train)
    monkeypatch.setattr(features, "_states", lambda example: massive(5 + examples.index(example)))
    facts = {"features": {"states": "both", "most_medians": MOST_MEDIANS}}
    exported = ROUTER.partition("def features")[2].partition("def choose")[0]
    names: dict[str, Any] = {"torch": torch, "facts": facts}
    exec("def features" + exported, names)
    for row, tokens in zip(features(examples), (5, 6), strict=True):
        states = massive(tokens).double().numpy()
        expected = []
        for part in (states.mean(0), states[-1]):
            limit = MOST_MEDIANS * np.sort(np.abs(part))[31]  # of 64, as torch.median
            clipped = np.minimum(np.maximum(part, -limit), limit)
            expected += list(clipped / np.linalg.norm(clipped) / 2**0.5)
        assert np.allclose(row, expected, atol=1e-6)
        torch.testing.assert_close(names["features"](massive(tokens)), row)


def test_noise_does_not_hide_prompts_behind_a_massive_activation() -> None:
    draw = torch.Generator().manual_seed(0)
    own, other = (torch.randn(64, generator=draw) for _ in range(2))
    points = torch.stack([own, other])
    points[:, 3] = 2000.0
    clipped = normalize(torch.stack([clip_massive(row) for row in points]), dim=1)
    plain = normalize(points, dim=1)
    apart = [float((rows[0] - rows[1]).norm()) for rows in (plain, clipped)]
    assert apart[0] < 0.01 and apart[1] > 0.5


def test_features_depend_on_nothing_but_the_prompt() -> None:
    backbone = Backbone.load(SMALL)
    examples = list(load_task("miniature/stages-0", seed=0, train_limit=4).train)
    together, backwards = (
        PromptFeatures(backbone)(examples),
        PromptFeatures(backbone)(examples[::-1]),
    )
    assert torch.equal(together, backwards.flip(0))
    question = examples[0]
    answered = Example("x", (*question.turns[:-1], Turn("assistant", "no")), question.images)
    assert torch.equal(PromptFeatures(backbone)([answered])[0], together[0])


def test_a_text_without_a_prompt_is_refused_by_name() -> None:
    text = Example("poem", (Turn("assistant", "Roses are red"),))
    with pytest.raises(DataError, match="'poem' is plain text without a prompt"):
        PromptFeatures(Backbone.load(SMALL))([text])
