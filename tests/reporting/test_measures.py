"""Test that tables and pages name the measures that they show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import fedmosaic
from fedmosaic.reporting.adaptation import print_adaptations
from fedmosaic.reporting.comparison import legend
from fedmosaic.reporting.measures import MEASURES, named


@pytest.mark.parametrize(
    ("metrics", "expected", "explained"),
    [
        (["accuracy"], "accuracy", "accuracy"),
        (["f1"], "token F1", "token F1"),
        (["rouge_l", "f1"], "token F1 or ROUGE-L", "token F1 or ROUGE-L (each task by its own)"),
        ([], "score", "score"),
    ],
)
def test_measures_are_named(metrics: list[str], expected: str, explained: str) -> None:
    assert named(metrics) == expected
    assert named(metrics, explained=True) == explained


def test_the_table_of_a_comparison_names_its_measures() -> None:
    assert legend({"metrics": ["f1"]}).startswith("Token F1 in % after")
    assert legend({"metrics": ["accuracy", "f1"]}).startswith(
        "Accuracy or token F1 (each task by its own) in % after"
    )
    assert legend({}).startswith("Score in % after")


def test_the_table_of_adaptation_names_its_measures() -> None:
    content: dict[str, Any] = {
        "settings": {"every": 1, "points": 1, "clients": ["a"], "tasks": ["t"]},
        "metrics": {"t": "rouge_l"},
        "adapted": {"a": {"t": [0.0, 0.5]}},
        "fresh": {},
        "received": {},
    }
    console = Console(width=200, record=True)
    print_adaptations({"runs/a": content}, console)
    assert "ROUGE-L in % on new tasks" in console.export_text()


def rename_metric(folder: Path, metric: str) -> None:
    """Change the metric of all runs below a folder, as if their tasks were open."""
    for path in folder.rglob("metrics.jsonl"):
        path.write_text(path.read_text().replace('"accuracy"', json.dumps(metric)))
    for path in folder.rglob("summary.json"):
        path.write_text(path.read_text().replace('"accuracy"', json.dumps(metric)))


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_the_report_names_its_measures(
    comparison_folder: Path, tmp_path: Path, metric: str
) -> None:
    recorded = json.loads((comparison_folder / "comparison.json").read_text())
    assert recorded["metrics"] == ["accuracy"]
    rename_metric(comparison_folder, metric)
    page = fedmosaic.report([comparison_folder], out=tmp_path / "report.html").read_text()
    name = MEASURES[metric]
    assert f"{name} on own tasks" in page and f"{name[:1].upper()}{name[1:]} in % after" in page
    other = "accuracy" if metric == "f1" else "token F1"
    visible = page[: page.index("<script")]
    assert other not in visible.replace("algorithm_accuracy", "").casefold()
