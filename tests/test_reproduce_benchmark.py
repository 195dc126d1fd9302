"""Check that published rows can be run again, and that a difference is found."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.accuracy import reproduce
from benchmarks.accuracy.evidence_parts import MINIATURES
from benchmarks.common.tables import COLUMNS


@pytest.mark.parametrize("benchmark", reproduce.BENCHMARKS)
def test_every_row_and_seed_of_a_result_can_be_reproduced(benchmark: str) -> None:
    for label, row in reproduce.published(benchmark).items():
        for seed in row["seeds"]:
            name, view = reproduce.row_and_view(benchmark, label)
            scenario, variants = reproduce.scenario_and_variants(benchmark, seed, view)
            assert [v.algorithm for v in variants if v.label == name] == [row["algorithm"]]
            assert view in scenario.evaluation.views
            second = seed >= 3 and benchmark in MINIATURES
            assert all(client.model.endswith("@1") == second for client in scenario.clients)


def test_figures_are_those_of_the_view() -> None:
    assert reproduce.row_and_view("static", "fedsim, routed") == ("fedsim", "routed")
    scenario, _ = reproduce.scenario_and_variants("static", 0, "routed")
    assert scenario.evaluation.views == ("mixed", "routed")

    def figures(value: float) -> dict[str, Any]:
        groups = {name: {"last": value + 0.2} for name in ("in_group", "out_group")}
        return {"self": {"last": value}, "others": {"last": value + 0.1, **groups}}

    also = {"routed, after": figures(0.5)}
    summary = {"evaluation": {"view": "mixed"}, **figures(0.3), "also": also}
    for view, value in (("mixed", 30.0), ("routed", 50.0)):
        found = reproduce.reproduced_figures(summary, view)
        assert [found[column]["values"] for column in COLUMNS] == [
            [value],
            [value + 10],
            [value + 20],
            [value + 20],
        ]


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
