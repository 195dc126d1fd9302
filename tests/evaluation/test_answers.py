"""The reader of generated choices, case by case; each line of the table is a way to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.evaluation import read_choice

COLOURS = ("red", "dark red", "blue")
LETTERED = ("A. a dog", "B. two cats", "C. a bird")


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("red", COLOURS, "red"),
        ("Red.", COLOURS, "red"),
        ("  BLUE \n", COLOURS, "blue"),
        ("dark red", COLOURS, "dark red"),
        ("It is dark red, I think", COLOURS, "dark red"),
        ("the answer is red", COLOURS, "red"),
        ("reddish", COLOURS, None),
        ("infrared", COLOURS, None),
        ("red or blue", COLOURS, None),
        ("Answer: red, not blue", COLOURS, "red"),
        ("green", COLOURS, None),
        ("", COLOURS, None),
        ("10", ("1", "10", "100"), "10"),
        ("10.", ("1", "10"), "10"),
        ("there are 10 of them", ("1", "10"), "10"),
        ("1.5", ("1", "5"), None),
        ("it is 1,000", ("1", "1,000"), "1,000"),
        ("B", LETTERED, "B. two cats"),
        ("(B)", LETTERED, "B. two cats"),
        ("b.", LETTERED, "B. two cats"),
        ("B) two cats", LETTERED, "B. two cats"),
        ("Answer: C", LETTERED, "C. a bird"),
        ("The correct option is (C).", LETTERED, "C. a bird"),
        ("two cats", LETTERED, "B. two cats"),
        ("I see a bird", LETTERED, "C. a bird"),
        ("a bird", LETTERED, "C. a bird"),
        ("this is a strange picture", LETTERED, None),
        ("D", LETTERED, None),
        ("no", ("yes", "no"), "no"),
        ("Yes, it is.", ("yes", "no"), "yes"),
        ("nothing is known", ("yes", "no"), None),
        ("nó", ("yes", "no"), None),
        ("ＲＥＤ", COLOURS, "red"),
        ("“blue”", ("red", "blue"), "blue"),
        ("above", ("above", "below"), "above"),
        ("top-left", ("left", "top-left"), "top-left"),
    ],
)
def test_table(text: str, options: tuple[str, ...], expected: str | None) -> None:
    index = read_choice(text, options)
    assert (None if index is None else options[index]) == expected


OPTIONS = st.lists(
    st.text("abcdefg ", min_size=2, max_size=8).map(str.strip).filter(lambda s: len(s) > 1), min_size=2, unique=True
)


@given(OPTIONS, st.data())
def test_an_option_said_alone_is_that_option(options: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    for text in (options[index], options[index].upper() + ".", f" {options[index]}\n"):
        found = read_choice(text, options)
        assert found is not None and " ".join(options[found].split()) == " ".join(options[index].split())


@given(st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_nothing_breaks_the_reader(text: str, options: list[str]) -> None:
    index = read_choice(text, options)
    assert index is None or 0 <= index < len(options)
