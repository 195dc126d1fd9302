"""Check the curves over rounds and their pictures without running anything."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.accuracy import curves
from benchmarks.common.line_chart import Line, line_chart, panel_limits
from fedmosaic.algorithms import TABLE
from fedmosaic.experiments.statistics import Interval

SVG = "{http://www.w3.org/2000/svg}"


def published(**shifts: float) -> dict[str, dict[str, Any]]:
    """Return curves of two rounds and two seeds, each shifted up by so much."""
    return {
        name: {
            "steps": 20,
            "Self": {"0": [40.0 + shift, 50.0 + shift], "1": [42.0 + shift, 54.0 + shift]},
            "Others": {"0": [30.0, 31.0], "1": [30.0, 33.0]},
        }
        for name, shift in shifts.items()
    }


def test_every_algorithm_has_a_curve() -> None:
    assert set(curves.ALGORITHMS) == {*TABLE, "fedmosaic-no-communication"}


def test_the_picture_shows_the_algorithm_and_local_training() -> None:
    pictures = curves.pictures(published(sft=0.0, ditto=6.0))
    root = ElementTree.fromstring(pictures["ditto"])
    groups = [group.get("class") for group in root.iter(f"{SVG}g")]
    assert groups == ["reference", "main"] * 2 + ["main", "reference"]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[-2:] == ["ditto", "sft (local training)"]
    local = ElementTree.fromstring(pictures["sft"])
    assert {group.get("class") for group in local.iter(f"{SVG}g")} == {"reference"}
    assert pictures == curves.pictures(published(sft=0.0, ditto=6.0))


def test_higher_values_are_drawn_higher_and_within_the_panel() -> None:
    points = [Interval(40.0, 5.0, 3), Interval(60.0, 1.0, 3)]
    limits = panel_limits([points])
    assert limits == (35.0, 65.0)
    line = Line("one", "main", {"Self": points, "Others": points})
    text = line_chart("title", [line], {"Self": limits, "Others": limits}, "round")
    circles = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', text)[:2]
    (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in circles)
    assert x0 < x1 and y0 > y1
    assert (208 - y0) / 174 == pytest.approx((40 - 35) / 30, abs=1e-3)


def test_a_curve_that_differs_from_the_published_one_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(curves, "read_result", lambda _: {"algorithms": published(sft=0.0)})
    text, equal = curves.compare_with_published(published(sft=0.0))
    assert equal and "| sft, seed 0 | Self | 40.0 50.0 | 40.0 50.0 |" in text
    text, equal = curves.compare_with_published(published(sft=0.001))
    assert not equal and "| sft, seed 0 | Self | 40.0 50.0 | 40.001 50.001 |" in text


def test_added_curves_stand_in_the_order_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"seeds": [0, 1], "algorithms": published(sft=0.0, ditto=1.0, pooled=2.0)}
    monkeypatch.setattr(curves, "read_result", lambda _: before)
    found = curves.with_published(published(fedavg=3.0, ditto=4.0))
    assert list(found["algorithms"]) == ["sft", "fedavg", "ditto", "pooled"]
    assert found["seeds"] == [0, 1]
    assert found["algorithms"]["ditto"] == published(ditto=4.0)["ditto"]
    assert found["algorithms"]["sft"] == before["algorithms"]["sft"]


def test_the_page_has_the_first_and_the_last_round() -> None:
    content = {
        "command": "the command",
        "scenario": "a scenario",
        "seeds": [0, 1],
        "algorithms": published(sft=0.0),
    }
    text = curves.page(content)
    assert (
        "| algorithm | Self, round 1 | Self, round 2 | Others, round 1 | Others, round 2 |" in text
    )
    assert "| sft | 41.0 ± 12.7 | 52.0 ± 25.4 | 30.0 ± 0.0 | 32.0 ± 12.7 | 20 |" in text
