"""Check the matching of layers by depth, and the best monotone matching by brute force."""

from __future__ import annotations

import json
from itertools import combinations, pairwise

import pytest
import torch

from fedmosaic.adapters import block_ends
from fedmosaic.adapters.placement import even_block_ends
from fedmosaic.alignment.correspondence.cka import StreamedCka
from fedmosaic.alignment.correspondence.layers import (
    cka_monotone_matching,
    cka_report,
    compare_rules,
    relative_depth_pairs,
)
from fedmosaic.errors import ModelError


@pytest.mark.parametrize("seed", range(20))
def test_the_matching_is_the_best_of_all(seed: int) -> None:
    layers, ends = 7, [1, 3, 4]
    cka = torch.rand(layers, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = cka_monotone_matching(cka, ends)
    value = sum(float(cka[pair]) for pair in found)
    assert [pivot for _, pivot in found] == ends
    assert all(left[0] < right[0] for left, right in pairwise(found))
    best = max(
        sum(float(cka[i, p]) for i, p in zip(chosen, ends, strict=True))
        for chosen in combinations(range(7), 3)
    )
    assert value == pytest.approx(best, abs=1e-12)


def test_as_many_layers_as_blocks_leave_no_choice() -> None:
    assert cka_monotone_matching(torch.rand(3, 3).flip(0), [0, 1, 2]) == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(ModelError, match="2 layers cannot be cut into 3"):
        cka_monotone_matching(torch.rand(2, 3), [0, 1, 2])


def test_what_the_rule_loses() -> None:
    assert (
        relative_depth_pairs(8, 10, 2)
        == [(3, 4), (7, 9)]
        == list(zip(block_ends(8, 2), block_ends(10, 2), strict=True))
    )
    cka = torch.zeros(8, 10)
    cka[3, 4], cka[5, 4], cka[7, 9] = 0.5, 0.75, 0.25
    first, second = compare_rules(cka, 2)
    assert first == {
        **{"block": 0, "pivot_layer": 4, "rule_layer": 3, "best_layer": 5},
        **{"rule_cka": 0.5, "best_cka": 0.75, "lost": 0.25},
    }
    assert (second["rule_layer"], second["best_layer"], second["lost"]) == (7, 7, 0.0)


def test_the_report_is_plain_numbers() -> None:
    streamed = StreamedCka((4, 5), (6, 6))
    draw = torch.Generator().manual_seed(0)
    streamed.update(
        [torch.randn(30, 6, generator=draw) for _ in range(4)],
        [torch.randn(30, 6, generator=draw)] * 5,
    )
    report = cka_report(streamed, 2)
    assert json.loads(json.dumps(report)) == report
    assert (
        report["matrix"] == streamed.matrix().tolist()
        and report["tokens"] == 30
        and report["captured"] == pytest.approx(1.0)
    )
    assert report["blocks"] == compare_rules(streamed.matrix(), 2)


def test_even_ends_are_the_papers_where_blocks_divide_the_layers() -> None:
    assert all(
        even_block_ends(n * k, k) == block_ends(n * k, k) for n in (1, 2, 7) for k in (1, 4, 8)
    )
    assert block_ends(10, 8) == (0, 1, 2, 3, 4, 5, 6, 9) and even_block_ends(10, 8) == (
        0,
        1,
        3,
        4,
        5,
        7,
        8,
        9,
    )
    with pytest.raises(ModelError, match="cannot be cut into 4 blocks"):
        even_block_ends(3, 4)
