"""Test open-ended metrics against values computed by hand."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

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


CASES = [
    json.loads(line) for line in (Path(__file__).parent / "scores.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{c['metric']}-{c['why']}-{number}" for number, c in enumerate(CASES)]
)
def test_a_score_is_what_careful_people_compute(case: dict[str, Any]) -> None:
    metric = {"token_f1": token_f1, "rouge_l": rouge_l}[case["metric"]]
    score, expected = metric(case["prediction"], case["reference"]), case["expected"]
    if isinstance(expected, dict):
        assert expected["min"] <= score <= expected["max"]
    else:
        assert score == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    ("prediction", "reference", "f1", "rouge"),
    [
        ("手机iPhone", "iPhone 手机", 1.0, 2 / 3),  # three words each; two in order
        ("コーヒー", "コーヒー。", 1.0, 1.0),  # the long-vowel mark is part of the word
        ("ສີຂຽວ", "ສີຂຽວ", 1.0, 1.0),
        ("น้ำ", "น้ํา", 1.0, 1.0),  # the vowel AM, as one sign and as two
        ("पानी", "पान", 0.0, 0.0),  # a vowel sign makes another word
        ("می‌خواهم", "میخواهم", 1.0, 1.0),  # a joiner that prints nothing
        ("green—gold", "green gold", 1.0, 1.0),
        ("green…gold", "green gold", 1.0, 1.0),
        ("co‐op", "co-op", 1.0, 1.0),  # Unicode's hyphen
        ("a̱ b", "b", 2 / 3, 2 / 3),  # a letter with a mark is no article
        ("€8", "8", 1.0, 1.0),
        ("−7", "-7", 1.0, 1.0),
        ("l’eau", "l'eau", 1.0, 1.0),
        ("STRASSE", "Straße", 1.0, 1.0),
        ("绿色和紫色", "绿色、紫色", 8 / 9, 8 / 9),
        ("초록 배", "초록배", 0.0, 0.0),  # Korean has spaces: they make words
    ],
)
def test_every_script_is_scored(prediction: str, reference: str, f1: float, rouge: float) -> None:
    assert token_f1(prediction, reference) == pytest.approx(f1)
    assert rouge_l(prediction, reference) == pytest.approx(rouge)


def squad_words(text: str) -> list[str]:
    """Normalise as SQuAD's published script describes it."""
    plain = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(r"\b(?:a|an|the)\b", " ", plain).split()


def rouge_words(text: str) -> list[str]:
    """Split as the package ``rouge-score`` does without stemming."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def common_in_order(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return 1 + common_in_order(a[:-1], b[:-1])
    return max(common_in_order(a[:-1], b), common_in_order(a, b[:-1]))


def f_measure(common: int, a: list[str], b: list[str]) -> float:
    return float(a == b) if not a or not b else 2 * common / (len(a) + len(b))


ascii_text = st.lists(
    st.one_of(
        st.sampled_from(["the", "a", "An", "red", "it's", "dark-red", "$8", "1.5", "a_b", "--"]),
        st.text(string.printable, max_size=3),
    ),
    max_size=6,
).map(" ".join)


@given(ascii_text, ascii_text)
def test_ascii_texts_score_as_with_the_published_scripts(a: str, b: str) -> None:
    words, others = squad_words(a), squad_words(b)
    common = sum(min(words.count(word), others.count(word)) for word in set(words))
    assert token_f1(a, b) == pytest.approx(f_measure(common, words, others))
    words, others = rouge_words(a)[:7], rouge_words(b)[:7]
    expected = f_measure(common_in_order(words, others), words, others)
    assert rouge_l(" ".join(words), " ".join(others)) == pytest.approx(expected)
    assert rouge_l(a, " ".join(rouge_words(a))) == 1
