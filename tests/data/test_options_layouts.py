"""Test that options are found in every layout, whichever way the answer is written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from option_layouts import CAPITALS, LABELS, LETTERED, QUESTION, UNLETTERED

from fedmosaic.data.options import Choices, OptionsError, choices_in_prompt, spelled

RIVERS = ("the Nile", "the Danube", "the Amazon")
OPTIONS = [
    RIVERS,
    ("尼罗河", "多瑙河", "亚马逊河"),
    ("red, white and blue", "black", "green, gold"),
    ("1,500", "2,500", "3,500", "2,000"),
    ("two", "four", "two", "six"),
    ("it's late", "too soon", "don't know"),
    ("개", "고양이"),
    ("TT", "Tt", "tt"),
    ("C. elegans", "E. coli", "A. thaliana"),
    ("(2, 5)", "(2, 5]", "[2, 5]"),
    ("3.5 m", "10 m", "10.5 m"),
    ("20", "10", "30"),
    ("un éléphant", "l'œuf"),
    ("12:30", "3:45"),
]
SPLIT_APART = {"red, white and blue"}  # a comma list cannot show where these end


def check(prompt: str, answer: str, options: Sequence[str], index: int) -> None:
    """Check what is read, and that the answer is among the options as they would be written."""
    found = choices_in_prompt(prompt, answer)
    assert found is not None
    assert found.options == tuple(options)
    assert found.options[found.index] == options[index]
    assert found.learn == answer
    written = spelled(answer, found)
    assert written[found.index] == answer and len(written) == len(options)
    assert len(set(written)) == len(set(options))


@pytest.mark.parametrize("layout", LETTERED)
def test_labelled_options(layout: str) -> None:
    for options in OPTIONS:
        prompt = LETTERED[layout](QUESTION, options)
        labels = list(LABELS.get(layout, CAPITALS)[: len(options)])
        for index, (label, text) in enumerate(zip(labels, options, strict=True)):
            for form in ("{}", "({})", "{}.", "**{}**", "The answer is {}."):
                check(prompt, form.format(label), labels, index)
            for form in ("{}", "{}.", "It is {}."):
                check(prompt, form.format(text), options, index)
            for form in ("{}. {}", "({}) {}", "{}: {}"):
                both = [form.format(*pair) for pair in zip(labels, options, strict=True)]
                check(prompt, both[index], both, index)


@pytest.mark.parametrize("layout", UNLETTERED)
def test_options_without_labels(layout: str) -> None:
    for options in OPTIONS:
        if not SPLIT_APART & set(options):
            prompt = UNLETTERED[layout](QUESTION, options)
            for index, text in enumerate(options):
                for form in ("{}", "{}.", "It is {}."):
                    check(prompt, form.format(text), options, index)


WORDS = st.text("abcxyzABÄß漢字ひ한글жш-'’%²3", min_size=1, max_size=6)
TEXTS = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)


def readable(text: str) -> bool:
    """Return whether a random text is no label, and neither begins nor ends as a list does."""
    return len(text.strip()) > 3 and text[0] != "-" and text[-1] not in "-'’"


@given(
    options=st.lists(TEXTS.filter(readable), min_size=2, max_size=6, unique_by=str.casefold),
    layout=st.sampled_from(sorted(LETTERED)),
    comma=st.booleans(),
    data=st.data(),
)
def test_random_options_are_read_back_from_labels(
    options: list[str], layout: str, comma: bool, data: st.DataObject
) -> None:
    if comma:
        options = [option.replace(" ", ", ", 1) for option in options]
    index = data.draw(st.integers(0, len(options) - 1))
    labels = list(LABELS.get(layout, CAPITALS)[: len(options)])
    prompt = LETTERED[layout](QUESTION, options)
    check(prompt, labels[index], labels, index)
    check(prompt, options[index], options, index)


@given(
    options=st.lists(TEXTS.filter(readable), min_size=2, max_size=6, unique_by=str.casefold),
    layout=st.sampled_from(sorted(UNLETTERED)),
    data=st.data(),
)
def test_random_options_are_read_back_from_lists(
    options: list[str], layout: str, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    check(UNLETTERED[layout](QUESTION, options), options[index], options, index)


@example(prompt="0,0", answer="0,\r0")
@given(prompt=st.text(max_size=80), answer=st.text(max_size=20))
def test_any_text_is_read_or_refused(prompt: str, answer: str) -> None:
    for text in (prompt, f"Which?\nA. {prompt}\nB. x", f"Options: [{prompt}]"):
        try:
            found = choices_in_prompt(text, answer)
        except OptionsError:
            continue
        if isinstance(found, Choices):
            assert len(found.options) > 1 and found.learn == answer
            assert spelled(answer, found)[found.index] == answer
