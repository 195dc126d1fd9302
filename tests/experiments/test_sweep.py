"""Check that a sweep over a setting that changes nothing is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.experiments import compare
from fedmosaic.experiments.grid import GridListener
from fedmosaic.experiments.sweep import Sweep, without_effect


def entry(settings: str, own: float | None, others: float | None = 40.0) -> dict[str, Any]:
    """Return a candidate's record; it failed where it has no figure."""
    if own is None:
        return {"settings": settings.split(), "failed": "not finite"}
    return {"settings": settings.split(), "self": own, "others": others, "score": own}


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([entry("a=1", 50.0), entry("a=2", 50.0)], ["a"]),
        ([entry("a=1", 50.0), entry("a=2", 50.0, 41.0)], []),
        ([entry("a=1", 50.0), entry("a=2", 50.0), entry("a=3", 51.0)], []),
        ([entry("a=1", 50.0), entry("a=2", None)], []),
        ([entry("a=1", 50.0)], []),
        ([], []),
        ([entry(f"a={a} b={b}", 50.0 + a) for a in (1, 2) for b in (1, 2)], ["b"]),
        ([entry(f"a={a} b={b}", 50.0 + a * b) for a in (1, 2) for b in (1, 2)], []),
        ([entry(f"a={a} b={b}", 50.0) for a in (1, 2) for b in (1, 2)], ["a", "b"]),
    ],
)
def test_settings_without_effect_are_found(
    candidates: Sequence[Mapping[str, Any]], expected: list[str]
) -> None:
    assert without_effect(candidates) == expected


def test_a_comparison_warns_of_them(tmp_path: Path) -> None:
    class Tried(Sweep):
        def choose(self, jobs: Any, failures: Any) -> dict[str, Any]:
            candidates = [entry(" ".join(settings), 50.0) for settings in jobs]
            return {"candidates": candidates, "chosen": ["train.lr=1"]}

    trials = {"sft": {("train.lr=1",): [], ("train.lr=2",): []}}
    with pytest.warns(UserWarning, match="sft: every value of train.lr gave the same figures"):
        compare._choose(Tried({}), trials, tmp_path, 1, GridListener())
