"""Check that published rows can be run again, and that a difference is found."""

from __future__ import annotations

import pytest

from benchmarks.accuracy import reproduce
from benchmarks.common.tables import COLUMNS


@pytest.mark.parametrize("benchmark", reproduce.BENCHMARKS)
def test_every_row_and_seed_of_a_result_can_be_reproduced(benchmark: str) -> None:
    for label, row in reproduce.published(benchmark).items():
        for seed in row["seeds"]:
            scenario, variants = reproduce.scenario_and_variants(benchmark, seed)
            assert [v.algorithm for v in variants if v.label == label] == [row["algorithm"]]
            second = seed >= 3 and benchmark in ("static", "dynamic")
            assert all(client.model.endswith("@1") == second for client in scenario.clients)


def test_one_digit_that_differs_is_found() -> None:
    row = {
        "seeds": [0, 3],
        **{column: {"values": [10.0, 20.0 + n]} for n, column in enumerate(COLUMNS)},
    }
    same = {column: {"values": [20.0 + n]} for n, column in enumerate(COLUMNS)}
    text, equal = reproduce.compare_with_published(row, 3, same)
    assert equal and "| Self | 20.0 | 20.0 |" in text
    same["Others"]["values"] = [21.001]
    text, equal = reproduce.compare_with_published(row, 3, same)
    assert not equal and "| Others | 21.0 | 21.001 |" in text
