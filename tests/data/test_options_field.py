"""Test how options are read from a field, with the answer as a text, a letter or a place."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fedmosaic.data.options import OptionsError, choices_of_field, lists_nothing

BIRDS = ["duck", "heron", "gull"]
SHAPES = [
    BIRDS,
    tuple(BIRDS),
    np.array(BIRDS),
    {"A": "duck", "B": "heron", "C": "gull"},
    {"a": "duck", "b": "heron", "c": "gull", "d": None},
    {"option_a": "duck", "option_b": "heron", "option_c": "gull"},
    {"text": BIRDS, "label": ["A", "B", "C"]},
    {"text": np.array(BIRDS), "label": np.array(["A", "B", "C"])},
    [{"label": label, "text": text} for label, text in zip("ABC", BIRDS, strict=True)],
    [{"text": text} for text in BIRDS],
    ["A. duck", "B. heron", "C. gull"],
    ["(A) duck", "(B) heron", "(C) gull"],
    json.dumps(BIRDS),
    str(BIRDS),
    json.dumps({"A": "duck", "B": "heron", "C": "gull"}),
    "duck, heron, gull",
    "duck; heron; gull",
    "duck | heron | gull",
    "duck\nheron\ngull",
    "duck, heron or gull",
    "A. duck B. heron C. gull",
    "(A) duck (B) heron (C) gull",
    "A) duck\nB) heron\nC) gull",
]


@pytest.mark.parametrize("value", SHAPES, ids=str)
@pytest.mark.parametrize("answer", ["heron", "B", "b", "(B)", "B)", "B.", "The answer is B.", 1])
def test_shapes_of_options_and_answers(value: Any, answer: str | int) -> None:
    found = choices_of_field(value, answer)
    assert (found.options, found.index, found.learn) == (tuple(BIRDS), 1, "heron")


def test_an_answer_with_the_option_is_learned_as_written() -> None:
    found = choices_of_field(BIRDS, "Heron.")
    assert (found.options, found.index, found.learn) == (tuple(BIRDS), 1, "Heron.")
    found = choices_of_field(["A. duck", "B. heron"], "B. heron")
    assert (found.options, found.index, found.learn) == (("A. duck", "B. heron"), 1, "B. heron")


@pytest.mark.parametrize(
    ("value", "answer", "index"),
    [
        ([2, 4, 6], 4, 1),
        ([2, 4, 6], "4", 1),
        ([1, 2, 3], "2", 1),  # a text is an option, never a place
        ([0.5, 1.5], 1.5, 1),
        (["2", "3", "4"], 1, 1),  # a number is a place where the options are texts
        ([True, False], False, 1),
        (["true", "false"], False, 1),
        (["no", "yes"], "Yes", 1),
        ({"1": "oak", "2": "carp"}, "2", 1),
        ({"text": ["oak", "carp"], "label": ["1", "2"]}, "2", 1),
        ({str(number): f"tree {number}" for number in range(1, 13)}, "12", 11),
        ([{"id": 0, "content": "oak"}, {"id": 1, "content": "carp"}], 1, 1),
        (["two", "four", "two", "six"], "D", 3),
        (["two", "four", "two", "six"], "six", 3),
        (["A", "B", "C"], "B", 1),
        (["B", "A"], "A", 1),  # the exact option before the letter
        (["a", "an", "the"], "A", 0),
        ("red, white and blue, black", "red, white and blue", 0),
    ],
)
def test_which_option_is_meant(value: Any, answer: Any, index: int) -> None:
    assert choices_of_field(value, answer).index == index


@pytest.mark.parametrize(
    ("value", "answer", "field", "message"),
    [
        (BIRDS, 3, "answer", "0 to 2"),
        (BIRDS, -1, "answer", "0 to 2"),
        (BIRDS, 1.0, "answer", "0 to 2"),
        (BIRDS, True, "answer", "neither an option"),
        (["yes", "no"], True, "answer", "neither an option"),
        (BIRDS, "1", "answer", "place from 0 as a number"),
        (BIRDS, "D", "answer", "none of the options"),
        (BIRDS, "owl", "answer", "none of the options"),
        (BIRDS, "A and B", "answer", "none of the options"),
        (BIRDS, "B. gull", "answer", "write one of the two"),
        (BIRDS, None, "answer", "expected the text"),
        (BIRDS, ["heron"], "answer", "expected the text"),
        ([1, 2, 3], 2, "answer", "may be the option '2' or the place of '3'"),
        ({"1": "oak", "2": "carp"}, 1, "answer", "may be"),
        (["b", "a"], "A", "answer", "is the label of 'b'"),
        (["TT", "Tt", "tt"], "tT", "answer", "fits several"),
        ({"A": "oak", "B": "carp", "C": None}, "C", "answer", "none of the options"),
        (["oak"], "oak", "options", "two options"),
        ([], "oak", "options", "two options"),
        ("oak", "oak", "options", "list of texts"),
        ("{'A': 'oak', 'B': 'carp'}", "B", "options", "list of texts"),
        (None, "oak", "options", "list of texts"),
        (5, "oak", "options", "list of texts"),
        (["oak", None], "oak", "options", "null"),
        (["oak", float("nan")], "oak", "options", "NaN"),
        (["oak", ["carp"]], "oak", "options", "list"),
        (["oak", " "], "oak", "options", "empty"),
        ({"oak": "A", "carp": "B"}, "B", "options", "under letters"),
        ({"text": ["oak", "carp"], "label": ["A"]}, "A", "options", "one length"),
        ([{"image": "a.png"}, {"image": "b.png"}], 0, "options", "'image'"),
        ([{"text": "a", "image": "a.png"}, {"text": "b"}], 0, "options", "'image'"),
        ([{"A": "oak"}, {"B": "carp"}], "B", "options", "without a text"),
        ("[" * 100000, "B", "options", "list of texts"),
    ],
    ids=str,
)
def test_what_cannot_be_read_names_its_field(
    value: Any, answer: Any, field: str, message: str
) -> None:
    with pytest.raises(OptionsError, match=message) as raised:
        choices_of_field(value, answer)
    assert raised.value.field == field
    names = {"options": "choices", "answer": "answerKey"}
    with pytest.raises(OptionsError) as raised:
        choices_of_field(value, answer, name="choices", answer_name="answerKey")
    assert raised.value.field == names[field] and "\n" not in raised.value.message


LEGS = "How many legs?\nA. two\nB. four\nC. six"


@pytest.mark.parametrize(
    ("value", "answer", "prompt", "options", "index", "learn"),
    [
        (["four", "six", "two"], "B", LEGS, "ABC", 1, "B"),
        (["four", "six", "two"], "(B)", LEGS, "ABC", 1, "(B)"),
        (["four", "six", "two"], "six", LEGS, ("two", "four", "six"), 2, "six"),
        (["four", "six", "two"], 1, LEGS, ("four", "six", "two"), 1, "six"),
        (["four", "six", "two"], 1, LEGS + "\nAnswer with the letter.", "ABC", 2, "C"),
        (["A. two", "B. four", "C. six"], "B", LEGS, "ABC", 1, "B"),
        (["A", "B", "C"], "B", LEGS, "ABC", 1, "B"),
        (["A", "B", "C"], "four", LEGS, ("two", "four", "six"), 1, "four"),
        (["Two", "Four", "Six"], "The answer is B.", LEGS, "ABC", 1, "The answer is B."),
        (["four", "six", "eight"], "six", LEGS, ("four", "six", "eight"), 1, "six"),
        (["two", "four"], "B", "How many? Options: two, four", ("two", "four"), 1, "four"),
    ],
)
def test_letters_stand_for_the_places_that_the_prompt_shows(
    value: Any, answer: Any, prompt: str, options: Any, index: int, learn: str
) -> None:
    found = choices_of_field(value, answer, prompt)
    assert (found.options, found.index, found.learn) == (tuple(options), index, learn)


@pytest.mark.parametrize(
    "value",
    [{"A": "four", "B": "six", "C": "two"}, ["four", "six", "eight"], ["two", "four"]],
    ids=str,
)
def test_a_letter_that_prompt_and_field_read_differently_is_refused(value: Any) -> None:
    with pytest.raises(OptionsError, match="give both the same") as raised:
        choices_of_field(value, "B", LEGS)
    assert raised.value.field == "options"


@pytest.mark.parametrize("value", [None, float("nan"), "", " ", [], {}, "[]", (), np.array([])])
def test_an_empty_field_lists_nothing(value: Any) -> None:
    assert lists_nothing(value)
    assert not lists_nothing(["a"]) and not lists_nothing("a, b") and not lists_nothing([0])
