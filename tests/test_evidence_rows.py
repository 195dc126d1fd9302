"""Check that every row of the evidence can be run, and which learning rates it tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy import evidence_rows
from benchmarks.accuracy.evidence_identity import RunIdentity
from benchmarks.accuracy.evidence_parts import (
    CHOOSING_SEEDS,
    LANGUAGE,
    MINIATURES,
    RATES,
    SEEDS,
)
from benchmarks.accuracy.evidence_store import PartStore, wanted_rates
from fedmosaic.config.load import load_scenario
from fedmosaic.miniature.pretraining.architectures import ARCHITECTURES
from fedmosaic.models.loading import bundled_names


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ({}, "cde"),
        ({"c": 1, "d": 2}, "cde"),
        ({"c": 1, "d": 2, "e": 1}, "cde"),
        ({"c": 2, "d": 2, "e": 1}, "bcde"),
        ({"b": 3, "c": 2, "d": 2, "e": 1}, "abcde"),
        ({"a": 4, "b": 3, "c": 2, "d": 2, "e": 1}, "abcde"),
        ({"c": 1, "d": 2, "e": 3}, "cdef"),
        ({"c": 1, "d": 2, "e": 3, "f": None}, "cdef"),
        ({"c": None, "d": None, "e": None}, "cde"),
    ],
)
def test_rates_are_tried_beyond_the_best_one(scores: dict[str, float | None], wanted: str) -> None:
    assert "".join(wanted_rates("abcdefg", scores, "d")) == wanted


def test_language_models_take_the_settings_of_their_scenario(tmp_path: Path) -> None:
    store = PartStore(LANGUAGE, tmp_path)
    rows = {row.label: row for row in evidence_rows.rows_of_part(LANGUAGE)}
    assert list(store.trials(rows["sft"])) == [f"train.lr={rate}" for rate in RATES]
    assert [candidate for _, candidate in store.missing_trials(rows["experts"]).values()] == [
        f"train.lr={rate}" for rate in ("2.5e-4", "5e-4", "1e-3") for _ in CHOOSING_SEEDS
    ]
    whole = load_scenario("reference/hetero")
    for row in rows.values():
        for seed in (0, 4):  # there is one pretraining
            scenario = store.settings(row, seed, ("train.lr=1e-3",)).scenario
            assert scenario.clients == whole.clients and scenario.adapter == whole.adapter
            assert scenario.models.dtype == "bfloat16"
    assert rows.keys() == set(evidence_rows.LANGUAGE_ROWS)


@pytest.mark.parametrize("part", MINIATURES)
def test_all_rows_can_be_run(part: str, tmp_path: Path) -> None:
    store = PartStore(part, tmp_path)
    rows = {row.label: row for row in evidence_rows.rows_of_part(part)}
    assert {"sft", "fedmosaic", "pooled"} <= rows.keys()
    for number, seeds in SEEDS.items():
        digests = {}
        for label, row in rows.items():
            settings = store.settings(row, seeds[0], ("train.lr=4e-3",))
            digests[label] = RunIdentity.of(settings).settings
            assert settings.scenario.train.lr == 4e-3 and settings.scenario.rounds == 8
            assert settings.scenario.budget.kind == ("steps" if part == "unmatched" else "flops")
            assert "mixed" in settings.scenario.evaluation.views
            assert store.chooser(row).label in rows
        assert len(set(digests.values())) == len(rows)
        models = {client.model for client in settings.scenario.clients}
        suffix = f"@{number}" if number else ""
        bases = {f"miniature/{name}{suffix}" for name in ARCHITECTURES}
        assert models <= bases & set(bundled_names())
        assert part == "homogeneous" or models == bases
