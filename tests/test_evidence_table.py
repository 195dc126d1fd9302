"""The evidence's verdicts: a claim holds only where the whole interval lies on its side, and fails with one clear exception."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.accuracy import evidence, evidence_table
from benchmarks.common.claims import verdict
from fedmosaic.experiments.compare import Plan
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
        ([UP], "holds"),
        ([DOWN], "does not hold"),
        ([UNCLEAR], "cannot be told"),
        ([LONE], "cannot be told"),
        ([UP, UNCLEAR], "cannot be told"),
        ([UP, UNCLEAR, DOWN], "does not hold"),
    ],
)
def test_verdicts(gaps: list[Interval], expected: str) -> None:
    assert verdict(gaps) == expected


def runs() -> dict[str, dict[int, Any]]:
    """Local training, two baselines and FedMosaic on three seeds; ditto is clearly above FedMosaic on Self."""
    means = {
        "sft": (0.5, 0.3),
        "fedavg": (0.4, 0.36),
        "ditto": (0.7, 0.31),
        "fedmosaic": (0.6, 0.4),
    }

    def summary(own: float, others: float, seed: int) -> dict[str, Any]:
        shift = seed / 100
        # Contradicted tasks lie a tenth above the others.
        scored = {
            name: own + shift + (name.split("-")[0] in evidence_table.CONTRADICTING) / 10
            for name in task_names()
        }
        tasks = {"tasks": {f"miniature/{name}": score for name, score in scored.items()}}
        groups = {name: {"last": others + shift} for name in ("in_group", "out_group")}
        return {
            "algorithm": "a", "rounds": {"of": 8}, "steps": 12, "bytes": {}, "seconds": {"total": 1.0},
            "clients": {f"client-{number}": tasks for number in range(10)},
            "self": {"last": own + shift + seed**2 / 1000}, "others": {"last": others + shift, **groups},
        }  # fmt: skip

    return {
        label: {seed: summary(*mean, seed) for seed in (0, 1, 2)} for label, mean in means.items()
    }


def rows() -> dict[str, Any]:
    return evidence_table.rows_of("static", runs(), {})


def test_figures_without_a_run_stay_and_are_compared_with_those_that_have_one() -> None:
    everything, finished = rows(), runs()
    kept = {
        label: row
        for label, row in evidence_table.rows_of("static", finished, {}).items()
        if label != "ditto"
    }
    for column in evidence_table.CLAIMED:
        kept["fedmosaic"][column]["values"][1] = 1.0  # of a seed that has a run now
    again = evidence_table.rows_of(
        "static", {"ditto": finished["ditto"], "fedmosaic": {1: finished["fedmosaic"][1]}}, kept
    )
    assert list(again) == list(everything)  # local training first, FedMosaic behind the baselines
    for label, row in everything.items():
        for column in evidence_table.CLAIMED:
            assert again[label][column]["values"] == pytest.approx(row[column]["values"], abs=1e-3)
        assert again[label]["seeds"] == [0, 1, 2] and again[label]["seconds"] == 1.0
    assert again["ditto"]["Self"]["minus sft"]["mean"] == pytest.approx(20)
    assert again["sft"]["Self"]["rank"] == everything["sft"]["Self"]["rank"]


def test_a_claim_about_every_baseline_names_the_one_that_comes_closest() -> None:
    local, baselines = evidence_table.claims(rows())
    assert local["Self"]["verdict"] == local["Others"]["verdict"] == "holds"
    assert local["Self"]["mean"] == pytest.approx(10)
    contradicted = evidence_table.CONTRADICTED
    assert rows()["sft"][contradicted]["values"] == pytest.approx([60, 61, 62])
    assert local[contradicted]["mean"] == pytest.approx(10)
    assert baselines["of"] == 2
    assert (baselines["Self"]["verdict"], baselines["Self"]["least"]) == ("does not hold", "ditto")
    assert (baselines["Others"]["verdict"], baselines["Others"]["above"]) == ("holds", 2)
    text = evidence_table.page(
        {"static": {"rows": rows(), "chosen": {}, "claims": [local, baselines]}}
    )
    assert (
        "does not hold (surely above 1 of 2, surely below 1; least -10.0 ± 0.0, against ditto)"
        in text
    )


@pytest.mark.parametrize("part", list(evidence.SCENARIOS))
@pytest.mark.parametrize("pretraining", list(evidence.SEEDS))
def test_all_variants_can_be_run(part: str, pretraining: int) -> None:
    variants = evidence.with_rates(
        evidence.labelled(part), {"fedmosaic": ["train.lr=4e-3"], "sft": ["train.lr=2e-3"]}
    )
    plan = Plan(
        "evidence", evidence.scenario(part, pretraining), variants, evidence.SEEDS[pretraining]
    )
    found = {variant.label: plan.settings(variant).scenario for variant in variants}
    assert found["sft"].train.lr == 2e-3 and found["within"].train.lr == 4e-3
    assert all(each.budget.kind == "flops" and each.rounds == 8 for each in found.values())
    bases = {
        f"miniature/{name}@1" if pretraining else f"miniature/{name}" for name in ARCHITECTURES
    }
    assert {client.model for client in found["fedmosaic"].clients} == bases <= set(bundled_names())
