"""The paper's gradient descent for A: the steps of a plain loop over the examples, and no better than the closed form."""

from __future__ import annotations

import pytest
import torch
from planted import MODULES
from syllables import spoken, syllable_model, word_model

from fedmosaic.adapters import block_ends
from fedmosaic.alignment import AlignmentSettings
from fedmosaic.alignment.closed_form.descent import Descent
from fedmosaic.alignment.closed_form.fit import Fitting
from fedmosaic.alignment.closed_form.moments import Matched
from fedmosaic.alignment.closed_form.observe import Observation, observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.closed_form.solve import nearest_orthonormal

EXAMPLES = spoken(30)
KEY = "block.1.o_proj"
Passes = tuple[Fitting, list[Observation], list[Observation]]


@pytest.fixture(scope="module")
def passes() -> Passes:
    words = word_model()
    syllables = syllable_model(words)
    settings = AlignmentSettings(rank=4, blocks=2, batch_size=7, fit="descent")
    pivot = Pivot.of(words, EXAMPLES, settings)
    fitting = Fitting(syllables, block_ends(4, 2), (1, 3), settings, len(EXAMPLES))
    own = list(observe(syllables, fitting.sites, EXAMPLES, settings, pivot.words))
    return fitting, own, [pivot.show(seen) for seen in pivot.observe(EXAMPLES)]


def test_one_step_for_every_four_examples_whatever_the_batches(passes: Passes) -> None:
    """24 examples are fitted to, in batches of seven: six steps of AdamW at 5e-5."""
    fitting, own, shown = passes
    for one, two in zip(own, shown, strict=True):
        fitting.update(one, two)
    rows: list[tuple[torch.Tensor, torch.Tensor]] = []  # of each example
    for one, two in zip(own, shown, strict=True):
        matched = Matched(one, two)
        rows += list(
            zip(*(side.split(matched.counts) for side in matched.rows(KEY, "input")), strict=True)
        )
    assert len(rows) == 30
    a = fitting.before[f"{KEY}.A"].float().requires_grad_()
    mean, square = torch.zeros_like(a), torch.zeros_like(a)
    for step in range(6):
        x, z = (torch.cat(side) for side in zip(*rows[4 * step : 4 * step + 4], strict=True))
        (gradient,) = torch.autograd.grad(((x @ a.t() - z) ** 2).mean(), a)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        moved = (
            mean / (1 - 0.9 ** (step + 1)) / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        )
        a = (a - 5e-5 * moved).detach().requires_grad_()
    assert fitting.descent is not None
    torch.testing.assert_close(fitting.descent.maps[KEY], a, atol=1e-7, rtol=0)
    found = fitting.solve()[f"{KEY}.A"]
    torch.testing.assert_close(found, nearest_orthonormal(a.detach()), atol=1e-6, rtol=0)


def test_with_enough_steps_it_comes_near_the_closed_form(passes: Passes) -> None:
    fitting, own, shown = passes
    descent = Descent(fitting.before, lr=3e-3)
    pairs = [Matched(one, two) for one, two in zip(own, shown, strict=True)]
    for _ in range(60):
        for matched in pairs:
            descent.update(matched)
    closed = Fitting(
        word_model(), (1, 3), (1, 3), fitting.settings.model_copy(update={"fit": "ridge"}), 30
    )
    for one, two in zip(own, shown, strict=True):
        closed.update(one, two)
    solved = closed.solve()
    by_descent = solved | {
        f"block.{k}.{m}.A": descent.solve(f"block.{k}.{m}") for k in range(2) for m in MODULES
    }
    for near, best in zip(closed.report(by_descent), closed.report(solved), strict=True):
        assert best["residual_after"] < near["residual_after"] + 0.02
        assert near["residual_after"] < best["residual_after"] + 0.05 < 0.2
