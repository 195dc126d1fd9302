"""Check statistics over seeds against tables and hand-computed values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.experiments.statistics import interval, mean_ranks, paired, t_probability, t_quantile
from fedmosaic.experiments.summaries import compare_summaries


@pytest.mark.parametrize(
    (
        "p",
        "degrees",
        "value",
    ),  # printed tables of Student's t; 1, 2 and 4 degrees of freedom have closed forms
    [
        (0.975, 1, math.tan(math.pi * 0.475)),
        (0.975, 2, 0.95 * math.sqrt(2 / (1 - 0.95**2))),
        (0.975, 3, 3.182446305284263),
        (0.975, 4, 2.7764451051977987),
        (0.975, 9, 2.262157162740992),
        (0.95, 5, 2.015048372669157),
        (0.995, 10, 3.16927267),
        (0.975, 30, 2.042272456301238),
        (0.975, 1000, 1.9623390808264078),
        (0.025, 4, -2.7764451051977987),
        (0.5, 7, 0.0),
    ],
)
def test_t_quantiles_are_those_of_the_tables(p: float, degrees: int, value: float) -> None:
    assert t_quantile(p, degrees) == pytest.approx(value, rel=1e-8, abs=1e-12)


@given(st.floats(0.01, 0.99), st.integers(1, 60))
def test_the_quantile_inverts_the_probability(p: float, degrees: int) -> None:
    assert t_probability(t_quantile(p, degrees), degrees) == pytest.approx(p, abs=1e-12)


def test_quantiles_that_do_not_exist() -> None:
    for p, degrees in ((0.0, 3), (1.0, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="no quantile"):
            t_quantile(p, degrees)


def test_interval_by_hand() -> None:
    # 2, 4, 9: mean 5, squares 9 + 1 + 16 = 26, s = √13, t(2) = 4.30265
    found = interval([2.0, 4.0, 9.0])
    assert (found.mean, found.n) == (5.0, 3)
    assert found.half == pytest.approx(4.302652729911275 * math.sqrt(13 / 3))
    assert interval([7.0]).half is None and interval([7.0]).mean == 7.0
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_pairing_takes_away_what_the_seeds_share() -> None:
    one, other = {0: 10.0, 1: 50.0, 2: 90.0}, {0: 9.0, 1: 48.0, 2: 87.0, 5: 1.0}
    gap = paired(one, other)
    assert gap is not None and gap.mean == 2.0 and gap.n == 3
    assert gap.half == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert interval(list(one.values())).half > 20 * gap.half  # type: ignore[operator]
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_mean_ranks_share_ties_and_want_common_seeds() -> None:
    values = {"a": {0: 3.0, 1: 1.0, 2: 9.0}, "b": {0: 2.0, 1: 1.0}, "c": {0: 1.0, 1: 2.0}}
    assert mean_ranks(values) == {"a": 1.75, "b": 2.25, "c": 2.0}
    assert mean_ranks({"a": {0: 1.0}, "b": {1: 1.0}}) == {} == mean_ranks({})


def summary(algorithm: str, own: float, others: float | None = None) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "steps": 12,
        "rounds": {"done": 3, "of": 3},
        "flops": None,
        "bytes": {"up": 1, "down": 2},
        "seconds": {"total": 10 * own},
        "self": {"last": own, "auc": own / 2},
        "others": {
            "last": others,
            "auc": others,
            "in_group": {"last": others},
            "out_group": {"last": None},
        },
    }


def test_a_comparison_by_hand() -> None:
    found = compare_summaries(
        {
            "sft": {0: summary("sft", 0.50, 0.3), 1: summary("sft", 0.60, 0.3)},
            "ours": {0: summary("fedmosaic", 0.53, 0.4), 1: summary("fedmosaic", 0.61, 0.4)},
            "control": {0: summary("fedmosaic", 0.70, 0.1), 1: summary("fedmosaic", 0.80, 0.1)},
            "fedavg": {0: summary("fedavg", 0.40, 0.5)},
            "broken": {},
        }
    )
    assert list(found) == ["sft", "ours", "control", "fedavg"]
    own = found["ours"]["Self"]
    assert own["values"] == [53.0, 61.0] and own["mean"] == 57.0
    assert own["ci95"] == pytest.approx(
        12.706204736 * 4.0, abs=1e-3
    )  # s/√n of two values is half their distance
    assert own["minus sft"] == {"mean": 2.0, "ci95": pytest.approx(12.706204736, abs=1e-3)}
    assert own["minus best"] == {
        "of": "sft",
        "mean": 2.0,
        "ci95": pytest.approx(12.706204736, abs=1e-3),
    }  # not its control
    assert (
        found["sft"]["Self"]["minus best"]["of"] == "control"
        and "minus sft" not in found["sft"]["Self"]
    )
    # Seed 0 is the only common one: 70, 53, 50, 40.
    assert [found[label]["Self"]["rank"] for label in found] == [3.0, 2.0, 1.0, 4.0]
    assert found["ours"]["Others"]["minus best"] == {"of": "fedavg", "mean": -10.0, "ci95": None}
    assert found["fedavg"]["Self"]["ci95"] is None and found["fedavg"]["seeds"] == [0]
    assert (
        "out-group" not in found["sft"]
        and "Unseen" not in found["sft"]
        and found["sft"]["seconds"] == 5.5
    )
