"""Test which option generated answers choose."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedmosaic.evaluation.answers import lists_letters, normalise, read_choice

COLOURS = ("red", "dark red", "blue", "light blue")
LETTERS = ("A", "B", "C", "D")
NUMBERS = ("1", "2", "10", "12")
CAPTIONED = ("A. a dog", "B. two cats", "C. a bird")
YES_NO = ("yes", "no")


@pytest.mark.parametrize(
    "text,options,expected",
    [
        # the longest option at a place, whole words only
        ("red", COLOURS, "red"),
        ("dark red", COLOURS, "dark red"),
        ("It is dark red.", COLOURS, "dark red"),
        ("top-left", ("left", "top-left"), "top-left"),
        ("above", ("above", "below"), "above"),
        ("nó", ("yes", "no"), None),
        ("a dark-red car", COLOURS, "dark red"),
        ("Dark\n red", COLOURS, "dark red"),
        ("reddish", COLOURS, None),
        ("infrared", COLOURS, None),
        ("the blue one", COLOURS, "blue"),
        ("LIGHT BLUE!", COLOURS, "light blue"),
        ("“Red”", COLOURS, "red"),
        ("**red**", COLOURS, "red"),
        ("ｒｅｄ", COLOURS, "red"),
        # numbers
        ("10", NUMBERS, "10"),
        ("There are 10.", NUMBERS, "10"),
        ("100", NUMBERS, None),
        ("1.5", NUMBERS, None),
        ("1.5", ("1", "5"), None),
        ("-1", NUMBERS, None),
        ("1,000", NUMBERS, None),
        ("it is 1,000", ("1", "1,000"), "1,000"),
        ("10:30", NUMBERS, None),
        ("two", NUMBERS, "2"),
        ("Two.", NUMBERS, "2"),
        ("the one on the left", NUMBERS, None),
        ("3", ("one", "three"), "three"),
        ("0.5", ("0.5", "5"), "0.5"),
        (".5", ("0.5", "5", ".5"), ".5"),
        # options that are letters
        ("A", LETTERS, "A"),
        ("b", LETTERS, "B"),
        ("(B)", LETTERS, "B"),
        ("b.", LETTERS, "B"),
        ("C)", LETTERS, "C"),
        ("Answer: C", LETTERS, "C"),
        ("The answer is (d).", LETTERS, "D"),
        ("The correct option is B because it is red", LETTERS, "B"),
        ("Option A is correct", LETTERS, "A"),
        ("I think B", LETTERS, "B"),
        ("**B**", LETTERS, "B"),
        ("B. It is a dog", LETTERS, "B"),
        ("A dog and a cat", LETTERS, None),
        ("It is a dog", LETTERS, None),
        ("The answer is a dog", LETTERS, None),
        ("A or B", LETTERS, None),
        ("E", LETTERS, None),
        ("Because", LETTERS, None),
        ("D", ("B", "D"), "D"),
        ("I", ("H", "I"), "I"),
        # lettered options
        ("B", ("A. red", "B. blue"), "B. blue"),
        ("blue", ("A. red", "B. blue"), "B. blue"),
        ("(B) blue", ("(A) red", "(B) blue"), "(B) blue"),
        ("B: blue", ("A: red", "B: blue"), "B: blue"),
        ("a red car", ("A. blue", "B. red"), "B. red"),
        ("A red car", ("A. blue", "B. red"), "B. red"),
        ("B) two cats", CAPTIONED, "B. two cats"),
        ("Answer: C", CAPTIONED, "C. a bird"),
        ("The correct option is (C).", CAPTIONED, "C. a bird"),
        ("two cats", CAPTIONED, "B. two cats"),
        ("I see a bird", CAPTIONED, "C. a bird"),
        ("a bird", CAPTIONED, "C. a bird"),
        ("this is a strange picture", CAPTIONED, None),
        ("D", CAPTIONED, None),
        # letters mean nothing where options are not lettered
        ("A", ("dog", "cat"), None),
        ("a dog", ("cat", "dog"), "dog"),
        ("B.", ("dog", "cat"), None),
        # yes and no
        ("Yes", YES_NO, "yes"),
        ("No, there is not.", YES_NO, "no"),
        ("Yes, there is no dog", YES_NO, "yes"),
        ("yes/no", YES_NO, None),
        ("There is no dog.", YES_NO, "no"),
        ("I know", YES_NO, None),
        ("nothing", YES_NO, None),
        # several options
        ("red or blue", COLOURS, None),
        ("Answer: red, though blue is near", COLOURS, "red"),
        ("red. The other one is blue.", COLOURS, "red"),
        ("It is the red one. The other one is blue.", COLOURS, "red"),
        ("not red but blue", COLOURS, "blue"),
        ("It isn't red", COLOURS, None),
        ("not red", ("red", "not red"), "not red"),
        # nothing
        ("", COLOURS, None),
        ("   ", COLOURS, None),
        ("green", COLOURS, None),
        ("red", (), None),
        ("...", ("", "red"), None),
        # signs and other scripts
        ("<", ("<", ">", "<="), "<"),
        ("It is <= here", ("<", ">", "<="), "<="),
        ("?", ("!", "?"), "?"),
        ("Straße", ("strasse", "weg"), "strasse"),
        ("答案是红色的", ("红色", "蓝色"), "红色"),
        ("été", ("ete", "été"), "été"),
        ("C++ (of course)", ("C", "C++", "C#"), "C++"),
    ],
)
def test_reads(text: str, options: tuple[str, ...], expected: str | None) -> None:
    index = read_choice(text, options)
    assert (None if index is None else options[index]) == expected


@pytest.mark.parametrize(
    "text,expected",
    [
        ("B", 1),
        ("(a)", 0),
        ("answer: c", 2),
        ("a cat", 2),
        ("A dog", 0),
        ("C. cat", 2),
        ("bird", None),
    ],
)
def test_letters_of_the_prompt(text: str, expected: int | None) -> None:
    assert read_choice(text, ("dog", "fish", "cat"), lettered=True) == expected


@pytest.mark.parametrize(
    "prompt,count,expected",
    [
        ("Which?\nA. dog\nB. cat", 2, True),
        ("Which? (A) dog (B) cat", 2, True),
        ("Choice list:[A: dog| B: cat]", 2, True),
        ("Which?\nA. dog\nB. cat", 3, False),
        ("Is it a dog or a cat?", 2, False),
        ("Choice list:[dog, cat]", 2, False),
        ("Plan B. Go", 2, False),
        ("anything", 0, False),
    ],
)
def test_lists_letters(prompt: str, count: int, expected: bool) -> None:
    assert lists_letters(prompt, count) is expected


word = st.text(string.ascii_lowercase, min_size=2, max_size=7)
phrase = st.lists(word, min_size=1, max_size=3).map(" ".join)
DENIALS = {
    "not",
    "never",
    "nor",
    "neither",
    "answer",
    "option",
    "choice",
    *normalise("zero one two three four").split(),
}


@given(options=st.lists(phrase, min_size=1, max_size=6, unique=True), data=st.data())
@settings(max_examples=300, deadline=None)
def test_an_option_is_read_in_any_dress(options: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    dress = data.draw(
        st.sampled_from(
            ["{}", "{}.", " {} ", '"{}"', "({})", "**{}**", "Answer: {}", "answer is {}."]
        )
    )
    case = data.draw(st.sampled_from([str.lower, str.upper, str.title]))
    assume(not any(DENIALS & set(option.split()) for option in options))
    assert read_choice(dress.format(case(options[index])), options) == index
    # In a sentence it is read, too, unless a longer option or another one can be seen there.
    sentence = f"9 {options[index]} 9"
    assert read_choice(sentence, options) in {
        index,
        *(i for i, o in enumerate(options) if o in options[index]),
    }


@given(
    text=st.text(max_size=60),
    options=st.lists(st.text(max_size=8), max_size=5),
    lettered=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_text_gives_an_index_or_none(text: str, options: list[str], lettered: bool) -> None:
    index = read_choice(text, options, lettered)
    assert index is None or 0 <= index < len(options)


@given(
    text=st.text(string.digits + " ", max_size=20), options=st.lists(phrase, min_size=1, max_size=5)
)
@settings(max_examples=100, deadline=None)
def test_a_text_without_any_option_is_unreadable(text: str, options: list[str]) -> None:
    assume(
        not {"zero", *DENIALS} & set(options)
        and not set(normalise(text).split()) & set("0123456789")
    )
    assert read_choice(text, options) is None


@given(n=st.integers(0, 10**6), others=st.sets(st.integers(0, 10**6), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_numbers_are_read_whole(n: int, others: set[int]) -> None:
    options = [str(value) for value in sorted(others)]
    index = read_choice(f"There are {n} of them", options)
    assert (None if index is None else int(options[index])) == (n if n in others else None)
