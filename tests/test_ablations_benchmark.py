"""Check the ablations without running any: what each changes, and what it is compared with."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.accuracy import ablations, evidence_parts, evidence_published
from benchmarks.common.tables import own_group_share
from fedmosaic.experiments.plan import Plan
from fedmosaic.experiments.summaries import compare_summaries


def test_every_ablation_changes_one_setting_of_fedmosaic() -> None:
    rates = {
        "fedmosaic": ["train.lr=4e-3"],
        "sft": ["train.lr=2e-3"],
        ablations.LOCAL_HALF: ["train.lr=2e-3"],
    }
    variants = {
        variant.label: variant
        for variant in evidence_published.with_rates(ablations.variants(), rates)
    }
    plan = Plan("ablations", evidence_parts.scenario("static", 0), list(variants.values()), (0,))
    found = {
        label: plan.settings(variant).scenario.model_dump() for label, variant in variants.items()
    }
    for label in (*ablations.CHANGED, *ablations.PIVOTS):
        reference = ablations.REFERENCES.get(label, "fedmosaic")
        assert reference is not None
        assert len(differences(found[label], found[reference])) == 1, label
    assert found[ablations.LOCAL_HALF]["train"]["lr"] == 2e-3


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the settings in which two scenarios differ."""
    gaps: list[str] = []
    for key in one:
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            gaps += [f"{key}.{gap}" for gap in differences(one[key], other[key])]
        elif one[key] != other[key]:
            gaps.append(key)
    return gaps


def test_the_share_of_the_own_group() -> None:
    weights = [[0.0, 0.9, 0.1], [0.3, 0.0, 0.7], [0.2, 0.8, 0.0]]
    # The first has no peer of its own group.
    assert own_group_share(["b", "a", "a"], weights) == pytest.approx(100 * (0 + 0.7 + 0.8) / 3)


def test_rows_are_compared_with_their_own_reference() -> None:
    means = {"sft": 0.5, "sft, participation 50 %": 0.45, "fedmosaic": 0.6, "N_B = 4": 0.58}
    means |= {ablations.PRINCIPAL: 0.4, "pivot svd": 0.41}

    def summary(value: float, seed: int) -> dict[str, Any]:
        last = {"last": value + seed / 100}
        others = {**last, "in_group": last, "out_group": last}
        own = {"rounds": {"of": 8}, "steps": 12, "bytes": {}, "seconds": {"total": 1.0}}
        return {"algorithm": "a", "self": last, "others": others, **own}

    rows = compare_summaries(
        {label: {seed: summary(mean, seed) for seed in (0, 1, 2)} for label, mean in means.items()}
    )
    text = ablations.table(rows, {"equal": 22.2, "fedmosaic": 40.0}, (0, 1, 2), "the command")
    lines = {
        line.split(" | ")[0].strip("| "): line.split(" | ")
        for line in text.splitlines()
        if line.startswith("| ")
    }
    assert lines["sft"][4] == ""
    assert lines["fedmosaic"][4:8] == ["sft", "+10.0 ± 0.0", "+10.0 ± 0.0", "+10.0 ± 0.0"]
    assert lines["N_B = 4"][4:6] == ["fedmosaic", "-2.0 ± 0.0"]
    assert lines["pivot svd"][4:6] == [ablations.PRINCIPAL, "+1.0 ± 0.0"]
    assert lines["fedmosaic"][8] == "40.0" and "with equal weights 22.2" in text
    short = ablations.short_table(rows, dict.fromkeys(rows, 40.0)).splitlines()
    assert short[2:] == [
        "| N_B = 4 | -2.0 ± 0.0 | -2.0 ± 0.0 | -2.0 ± 0.0 | 40.0 |",
        "| closed form, pivot principal | -20.0 ± 0.0 | -20.0 ± 0.0 | -20.0 ± 0.0 | 40.0 |",
        "| pivot svd, compared with closed form, pivot principal | "
        "+1.0 ± 0.0 | +1.0 ± 0.0 | +1.0 ± 0.0 | 40.0 |",
    ]
