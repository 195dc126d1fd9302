"""Check which figures a report draws, and what they show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedmosaic.experiments.statistics import Interval
from fedmosaic.reporting.html.axes import WIDE
from fedmosaic.reporting.html.collect import collect
from fedmosaic.reporting.html.figures import draw_ranking, report_figures
from fedmosaic.reporting.html.palette import plot_styles
from fedmosaic.reporting.html.sections import Section, sections


def test_many_labels_are_ranked(comparison_folder: Path) -> None:
    (section,) = sections(collect([comparison_folder]))
    assert "ranking" not in [
        spec.name for spec in report_figures(section, plot_styles(list(section.runs)))
    ]
    many = Section(
        section.name, {f"x{index}": section.runs["sft"] for index in range(8)} | dict(section.runs)
    )
    named = {spec.name: spec.named for spec in report_figures(many, plot_styles(list(many.runs)))}
    assert named["ranking"] and not named["self-others"]


def test_the_ranking_is_by_self_and_long_bars_leave_the_means_apart() -> None:
    estimates = {
        "sft": {"Self": Interval(50, 2, 3), "Others": Interval(30, 100, 3)},
        "best": {"Self": Interval(54, None, 1), "Others": Interval(32, 1, 3)},
    }
    figure = draw_ranking(estimates, "accuracy", "sft", plot_styles(list(estimates)), WIDE)
    own, others = figure.axes
    assert [text.get_text() for text in own.get_yticklabels()] == ["best", "sft"]
    assert own.get_ylim()[0] > own.get_ylim()[1]  # the first is on top
    low, high = own.get_xlim()
    assert low < 48 and high > 54  # all of sft's bar
    low, high = others.get_xlim()
    assert 27 < low < 29 and 33 < high < 35


def test_fast_adaptation_is_shown_where_it_was_measured_alike(comparison_folder: Path) -> None:
    asked = {
        "tasks": ["miniature/cloze-0"],
        "clients": ["a"],
        "every": 4,
        "points": 1,
        "items": None,
    }

    def measured(run: str, *values: float, **other: Any) -> None:
        curves = {"a": {"miniature/cloze-0": list(values)}}
        content = {
            "settings": {**asked, **other},
            "adapted": curves,
            "fresh": curves if run == "sft/seed-0" else {},
        }
        if run == "sft/seed-1":  # files written by earlier versions lack it
            content["received"] = curves
        (comparison_folder / run / "adaptation.json").write_text(json.dumps(content))

    measured("sft/seed-0", 0.2, 0.6)
    measured("sft/seed-1", 0.4, 0.8)
    measured("fedmosaic/seed-0", 0.1, 0.2, every=8)
    (section,) = sections(collect([comparison_folder]))
    found = section.adaptation("sft")
    assert [(steps, point.mean, point.n) for steps, point in found.items()] == [
        (0, 30, 2),
        (4, 70, 2),
    ]
    assert [point.mean for point in section.adaptation("sft", "fresh").values()] == [20, 60]
    assert [point.mean for point in section.adaptation("sft", "received").values()] == [40, 80]
    assert section.adaptation("fedmosaic") == {}
    specs = {spec.name: spec for spec in report_figures(section, plot_styles(list(section.runs)))}
    panels = specs["adaptation"].draw(WIDE).axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "from its own adapter", "from what it would receive next", "from an untrained adapter",
    ]  # fmt: skip
    assert len({axes.get_ylim() for axes in panels}) == 1
    lines = [line for axes in panels for line in axes.get_lines()]
    assert [list(line.get_ydata()) for line in lines if len(line.get_ydata())] == [
        [30, 70],
        [40, 80],
        [20, 60],
    ]
    # One that was stopped before all its tasks cannot be compared.
    asked["tasks"].append("miniature/caption-0")
    measured("sft/seed-1", 0.4, 0.8)
    (unfinished,) = sections(collect([comparison_folder]))
    asked["tasks"].pop()
    assert [point.n for point in unfinished.adaptation("sft").values()] == [1, 1]
    (comparison_folder / "sft" / "seed-1" / "adaptation.json").write_text("{")
    collected = collect([comparison_folder])
    assert (
        any("adaptation.json is damaged" in note for note in collected.notes)
        and len(collected.runs) == 3
    )
