"""Test which option generated answers choose."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.evaluation import read_choice
from fedmosaic.evaluation.answers import read_choice_as_release, vocabulary
from fedmosaic.evaluation.answers.tokens import tokenise

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
        # letters stand for places
        ("A", ("dog", "cat"), "dog"),
        ("a dog", ("cat", "dog"), "dog"),
        ("B.", ("dog", "cat"), "cat"),
        # yes and no
        ("Yes", YES_NO, "yes"),
        ("No, there is not.", YES_NO, "no"),
        ("Yes, there is no dog", YES_NO, "yes"),
        ("yes/no", YES_NO, None),
        ("There is no dog.", YES_NO, None),  # the question may be whether it is absent
        ("I know", YES_NO, None),
        ("nothing", YES_NO, None),
        # several options
        ("red or blue", COLOURS, None),
        ("Answer: red, though blue is near", COLOURS, "red"),
        ("red. The other one is blue.", COLOURS, "red"),
        ("It is the red one. The other one is blue.", COLOURS, None),
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
    assert read_choice(text, options) == expected


def cases(name: str) -> list[dict[str, Any]]:
    """Read cases: ``text``, ``options``, ``expected``, perhaps ``accept``, and ``why``."""
    lines = (Path(__file__).parent / name).read_text().splitlines()
    return [json.loads(line) for line in lines]


def accepted(case: dict[str, Any]) -> list[str | None]:
    return [case["expected"], *case.get("accept", [])]


HANDED = cases("answers.jsonl")


@pytest.mark.parametrize("case", HANDED, ids=lambda case: f"{case['why']}: {case['text']}")
def test_an_answer_is_read_as_careful_people_read_it(case: dict[str, Any]) -> None:
    assert read_choice(case["text"], case["options"]) in accepted(case), case["why"]


CAREFUL = cases("careful_answers.jsonl")


def test_readings_agree_with_careful_judgements() -> None:
    """Compare the reader with judged answers, on which it was mended.

    Each answer was judged before it was read. The rows without a round came first. Rounds 1 to 5
    are later; of these, the reader agreed with 92.5, 95.1, 95.7, 97.2 and 99 % when it first met
    them, and read 1.0, 0.9, 0.8, 0.6 and 1 % as another option. It was mended after each round:
    this test shows that it still agrees, not how it reads new answers.
    """
    wrong = [case for case in CAREFUL if not is_accepted(case)]
    assert len(CAREFUL) >= 3100
    assert len(wrong) <= 0.005 * len(CAREFUL), wrong


def test_no_answer_is_read_as_another_option() -> None:
    found = {
        (case["text"], *case["options"]): reading
        for case in [*HANDED, *CAREFUL]
        if (reading := read_choice(case["text"], case["options"])) is not None
        and reading not in accepted(case)
    }
    assert not found


def is_accepted(case: dict[str, Any]) -> bool:
    return read_choice(case["text"], case["options"]) in accepted(case)


# Words that deny, join, correct or stand for numbers are options only in some places.
OWN_MEANING = {
    word
    for name in dir(vocabulary)
    if name.isupper()
    for entry in getattr(vocabulary, name)
    for word in entry.split()
}
plain_word = st.text(string.ascii_lowercase, min_size=4, max_size=8).filter(
    lambda word: word not in OWN_MEANING and not any(t.quantity for t in tokenise(word))
)
options_of_words = st.lists(plain_word, min_size=2, max_size=5, unique=True)


@given(options=options_of_words, data=st.data())
@settings(max_examples=100, deadline=None)
def test_every_option_is_read_from_itself_and_from_its_letter(
    options: list[str], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(options) - 1))
    letter, option = chr(ord("A") + place), options[place]
    case = data.draw(st.sampled_from([str.lower, str.upper, str.title]))
    texts = ("{}", "{}.", "({})", "**{}**", "The answer is {}.", "<think>hm</think>\n{}", "{}</s>")
    for text in texts:
        assert read_choice(text.format(case(option)), options) == option
        assert read_choice(text.format(letter), options) == option
    assert read_choice(f"{letter}. {option}", options) == option
    assert read_choice(f"It is {option}, I am sure.", options) == option


@given(options=options_of_words, data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_answer_that_names_two_options_or_denies_one_is_not_read(
    options: list[str], data: st.DataObject
) -> None:
    first, second = data.draw(st.permutations(options))[:2]
    joint = data.draw(st.sampled_from([" or ", " and ", ", ", "/", "; ", "\n", " & "]))
    assert read_choice(f"{first}{joint}{second}", options) is None
    assert read_choice(f"The answer is {first} or {second}.", options) is None
    assert read_choice(f"It is not {first}.", options) is None
    assert read_choice(f"It is {first}, not {second}", options) == first
    assert read_choice(f"{first} is wrong", options) is None
    hidden = data.draw(plain_word)
    assert read_choice(f"{hidden}{first}", [*options]) in (None, f"{hidden}{first}")


PIECES = """
A B I is not the answer is or 1 2.5 3/4 ½ 0/0 − $ 不 是 绿色 B입니다 สี नहीं <think> </think> \\boxed{
** ^ √ no none of these wait, = 🚫 e\u0301 İ ① C++ ( )
""".split()  # noqa: SIM905
piece = st.one_of(st.text(max_size=8), st.sampled_from([*PIECES, "9" * 5000]))
pieces = st.lists(piece, max_size=8).map(" ".join)


@given(text=pieces, options=st.lists(st.lists(piece, max_size=2).map("".join), max_size=5))
@settings(max_examples=300, deadline=None)
def test_a_reading_is_an_option_as_listed_or_none(text: str, options: list[str]) -> None:
    reading = read_choice(text, options)
    assert reading is None or reading in options


@given(n=st.integers(0, 10**6), others=st.sets(st.integers(0, 10**6), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_numbers_are_read_whole(n: int, others: set[int]) -> None:
    options = [str(value) for value in sorted(others)]
    for text in (f"There are {n} of them", f"{n}.", f"{n:,}", f"{n} boats"):
        reading = read_choice(text, options)
        assert (None if reading is None else int(reading)) == (n if n in others else None)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("dark red", ("red", "dark red"), "red"),
        ("10", ("1", "10"), "1"),
        ("a boat", ("A", "B"), "A"),
        ("It is BLUE", ("red", "blue"), "blue"),
        ("not red", ("red", "blue"), "red"),
        ("green", ("red", "blue"), None),
        ("", ("red",), None),
        ("red", ("", "red"), "red"),
    ],
)
def test_the_rule_of_the_release(text: str, options: tuple[str, ...], expected: str | None) -> None:
    assert read_choice_as_release(text, options) == expected
