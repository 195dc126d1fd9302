"""Check the verdicts of the evidence, and that all its rows can be run."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.accuracy import evidence, evidence_table
from benchmarks.common.claims import verdict
from fedmosaic.experiments.plan import Plan
from fedmosaic.experiments.statistics import Interval
from fedmosaic.miniature.benchmark.load import task_names
from fedmosaic.miniature.pretraining.architectures import ARCHITECTURES
from fedmosaic.models.loading import bundled_names

UP, DOWN, UNCLEAR, LONE = (
    Interval(2, 1, 5),
    Interval(-2, 1, 5),
    Interval(1, 1, 5),
    Interval(9, None, 1),
)


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([UP], "supported"),
        ([DOWN], "contradicted"),
        ([UNCLEAR], "inconclusive"),
        ([LONE], "inconclusive"),
        ([UP, UNCLEAR], "inconclusive"),
        ([UP, UNCLEAR, DOWN], "contradicted"),
    ],
)
def test_verdicts(gaps: list[Interval], expected: str) -> None:
    assert verdict(gaps) == expected


def runs() -> dict[str, dict[int, Any]]:
    """Return runs of four algorithms with three seeds; ditto is clearly above FedMosaic on Self."""
    means = {
        "sft": (0.5, 0.3),
        "fedavg": (0.4, 0.36),
        "ditto": (0.7, 0.31),
        "fedmosaic": (0.6, 0.4),
    }

    def summary(own: float, others: float, seed: int) -> dict[str, Any]:
        shift = seed / 100
        # Conflicting tasks lie a tenth above the others.
        scored = {
            name: own + shift + (name.split("-")[0] in evidence_table.CONFLICTING_FAMILIES) / 10
            for name in task_names()
        }
        tasks = {"tasks": {f"miniature/{name}": score for name, score in scored.items()}}
        groups = {name: {"last": others + shift} for name in ("in_group", "out_group")}
        return {
            "algorithm": "a",
            "rounds": {"of": 8},
            "steps": 12,
            "bytes": {},
            "seconds": {"total": 1.0},
            "clients": {f"client-{number}": tasks for number in range(10)},
            "self": {"last": own + shift + seed**2 / 1000},
            "others": {"last": others + shift, **groups},
        }

    return {
        label: {seed: summary(*mean, seed) for seed in (0, 1, 2)} for label, mean in means.items()
    }


def rows() -> dict[str, Any]:
    return evidence_table.rows_of("static", runs(), {})


def test_figures_without_a_run_stay_and_are_compared_with_those_that_have_one() -> None:
    everything, finished = rows(), runs()
    published = {
        label: row
        for label, row in evidence_table.rows_of("static", finished, {}).items()
        if label != "ditto"
    }
    for column in evidence_table.JUDGED:
        published["fedmosaic"][column]["values"][1] = 1.0  # of a seed that has a run now
    updated = evidence_table.rows_of(
        "static",
        {"ditto": finished["ditto"], "fedmosaic": {1: finished["fedmosaic"][1]}},
        published,
    )
    assert list(updated) == list(everything)  # local training first, FedMosaic behind the baselines
    for label, row in everything.items():
        for column in evidence_table.JUDGED:
            assert updated[label][column]["values"] == pytest.approx(
                row[column]["values"], abs=1e-3
            )
        assert updated[label]["seeds"] == [0, 1, 2] and updated[label]["seconds"] == 1.0
    assert updated["ditto"]["Self"]["minus sft"]["mean"] == pytest.approx(20)
    assert updated["sft"]["Self"]["rank"] == everything["sft"]["Self"]["rank"]


def test_a_claim_about_every_baseline_names_the_one_that_comes_closest() -> None:
    local, baselines = evidence_table.judged_claims(rows())
    assert local["Self"]["verdict"] == local["Others"]["verdict"] == "supported"
    assert local["Self"]["mean"] == pytest.approx(10)
    conflicting = evidence_table.CONFLICTING
    assert rows()["sft"][conflicting]["values"] == pytest.approx([60, 61, 62])
    assert local[conflicting]["mean"] == pytest.approx(10)
    assert baselines["of"] == 2
    assert (baselines["Self"]["verdict"], baselines["Self"]["closest"]) == ("contradicted", "ditto")
    assert (baselines["Others"]["verdict"], baselines["Others"]["above"]) == ("supported", 2)
    text = evidence_table.page(
        {"static": {"rows": rows(), "chosen": {}, "claims": [local, baselines]}}
    )
    assert "contradicted (above 1 of 2, below 1; least -10.0 ± 0.0, to ditto)" in text


@pytest.mark.parametrize("part", list(evidence.SCENARIOS))
@pytest.mark.parametrize("pretraining", list(evidence.SEEDS))
def test_all_variants_can_be_run(part: str, pretraining: int) -> None:
    variants = evidence.with_rates(
        evidence.variants_of(part), {"fedmosaic": ["train.lr=4e-3"], "sft": ["train.lr=2e-3"]}
    )
    plan = Plan(
        "evidence", evidence.scenario(part, pretraining), variants, evidence.SEEDS[pretraining]
    )
    found = {variant.label: plan.settings(variant).scenario for variant in variants}
    assert found["sft"].train.lr == 2e-3 and found[evidence.SAME_ARCHITECTURE].train.lr == 4e-3
    assert all(each.budget.kind == "flops" and each.rounds == 8 for each in found.values())
    bases = {
        f"miniature/{name}@1" if pretraining else f"miniature/{name}" for name in ARCHITECTURES
    }
    assert {client.model for client in found["fedmosaic"].clients} == bases <= set(bundled_names())
