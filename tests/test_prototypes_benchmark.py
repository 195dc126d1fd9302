"""Test the measures of what prototypes reveal."""

from __future__ import annotations

import itertools

import pytest
import torch

from benchmarks.accuracy.prototypes_attack import auc, nearness, true_positives


def test_auc_is_the_share_of_pairs_in_which_the_member_is_nearer() -> None:
    draw = torch.Generator().manual_seed(0)
    members = torch.randint(5, (13,), generator=draw).double()
    others = torch.randint(5, (9,), generator=draw).double()
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(members, others)]
    assert auc(members, others) == pytest.approx(float(sum(pairs)) / len(pairs))
    assert auc(members, members) == pytest.approx(0.5)
    assert auc(members + 10, others) == 1.0


def test_true_positives_are_counted_above_a_limit_that_few_others_pass() -> None:
    others = torch.arange(200).double()
    assert true_positives(torch.tensor([150.0, 197.5, 198.0, 300.0]), others) == 0.75
    assert int((others > 197).sum()) == 2, "1 % of the others"


def test_a_prompt_that_is_a_prototype_is_the_nearest_of_all() -> None:
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    found = nearness(rows, rows[:3])
    assert torch.allclose(found[:3], torch.zeros(3).double(), atol=1e-6)
    assert (found[3:] < -0.1).all()
