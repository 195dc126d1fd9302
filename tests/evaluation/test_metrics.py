"""Test open-ended metrics against values computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.evaluation import rouge_l, token_f1


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("red", "red", 1.0),
        ("The red ball!", "red ball", 1.0),
        ("red", "blue", 0.0),
        ("", "blue", 0.0),
        ("", "", 1.0),
        ("red red", "red", 2 * 0.5 * 1 / 1.5),
        ("a red car", "the red house", 0.5),
    ],
)
def test_token_f1(prediction: str, reference: str, expected: float) -> None:
    assert token_f1(prediction, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("one", "two", 0.0),
        ("", "two", 0.0),
        ("x a b c y", "a b c", 2 * 0.6 * 1 / 1.6),
    ],
)
def test_rouge_l(prediction: str, reference: str, expected: float) -> None:
    assert rouge_l(prediction, reference) == pytest.approx(expected)


@given(st.text(), st.text())
def test_metrics_are_symmetric_shares(a: str, b: str) -> None:
    for metric in (token_f1, rouge_l):
        assert 0 <= metric(a, b) <= 1
        assert metric(a, b) == pytest.approx(metric(b, a))
        assert metric(a, a) == 1
