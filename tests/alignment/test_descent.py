"""Check the paper's gradient descent for A against a plain loop and the closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest
import torch
from planted import MODULES
from small_alignments import small
from syllables import sentences, syllable_model, word_model

from benchmarks.cost.descent import Descent
from fedmosaic.adapters import block_ends
from fedmosaic.alignment.closed_form.fit import Fitting
from fedmosaic.alignment.closed_form.moments import MatchedBatch
from fedmosaic.alignment.closed_form.observe import observe
from fedmosaic.alignment.closed_form.pivot import Pivot
from fedmosaic.alignment.closed_form.solve import nearest_orthonormal

EXAMPLES = sentences(30)
KEY = "block.1.o_proj"
FITTED = 24


class Passes(NamedTuple):
    closed: Fitting
    before: Mapping[str, torch.Tensor]
    matched: list[MatchedBatch]


@pytest.fixture(scope="module")
def passes() -> Passes:
    words = word_model()
    syllables = syllable_model(words)
    chosen = small(batch_size=7)
    settings, placement = chosen.alignment, chosen.placement
    pivot = Pivot.of(words, EXAMPLES, settings, placement)
    closed = Fitting(syllables, block_ends(4, 2), (1, 3), settings, placement, len(EXAMPLES))
    matched = []
    own_pass = observe(syllables, closed.sites, EXAMPLES, settings, pivot.words)
    for own, observation in zip(own_pass, pivot.observe(EXAMPLES), strict=True):
        projected = pivot.project(observation)
        closed.update(own, projected)
        matched.append(MatchedBatch(own, projected))
    return Passes(closed, closed.before, matched)


def test_one_step_for_every_four_examples_whatever_the_batches(passes: Passes) -> None:
    """24 examples in batches of seven: six steps of AdamW at 5e-5."""
    descent = Descent(passes.before)
    rows: list[tuple[torch.Tensor, torch.Tensor]] = []  # of each example
    for matched in passes.matched:
        if len(rows) < FITTED:
            descent.update(matched)
        split = (side.split(matched.counts) for side in matched.rows(KEY, "input"))
        rows += list(zip(*split, strict=True))
    assert len(rows) == 30 and descent.examples == FITTED
    a = passes.before[f"{KEY}.A"].float().requires_grad_()
    mean, square = torch.zeros_like(a), torch.zeros_like(a)
    for step in range(6):
        x, z = (torch.cat(side) for side in zip(*rows[4 * step : 4 * step + 4], strict=True))
        (gradient,) = torch.autograd.grad(((x @ a.t() - z) ** 2).mean(), a)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        moved = (
            mean / (1 - 0.9 ** (step + 1)) / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        )
        a = (a - 5e-5 * moved).detach().requires_grad_()
    torch.testing.assert_close(descent.maps[KEY], a, atol=1e-7, rtol=0)
    torch.testing.assert_close(
        descent.solve(KEY), nearest_orthonormal(a.detach()), atol=1e-6, rtol=0
    )


def test_with_enough_steps_it_comes_near_the_closed_form(passes: Passes) -> None:
    descent = Descent(passes.before, lr=3e-3)
    for _ in range(60):
        for matched in passes.matched:
            descent.update(matched)
    closed = passes.closed
    solved = closed.solve()
    by_descent = solved | {
        f"block.{k}.{m}.A": descent.solve(f"block.{k}.{m}") for k in range(2) for m in MODULES
    }
    for near, best in zip(closed.report(by_descent), closed.report(solved), strict=True):
        assert best["residual_after"] < near["residual_after"] + 0.02
        assert near["residual_after"] < best["residual_after"] + 0.05 < 0.2
