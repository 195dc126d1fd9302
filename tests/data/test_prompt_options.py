"""Test how options are found in prompts."""

from __future__ import annotations

import pytest

from fedmosaic.data.options import NotOffered, choices_in_prompt, match_option


@pytest.mark.parametrize(
    ("prompt", "answer", "options"),
    [
        ("How many?\nChoice list:[one, two]. Your answer is:", "two", ("one", "two")),
        (
            "Which? Choice list:[View 1,View 2,View 3]. Your answer is: ",
            "View 2",
            ("View 1", "View 2", "View 3"),
        ),
        ("Choice List: [red, dark red]", "dark red", ("red", "dark red")),
        ("Choice list:[A to B, B to A].", "B to A", ("A to B", "B to A")),
        ("Which? Choice list:[a, b] Now again. Choice list:[c, d]", "d", ("c", "d")),
        ("Choice list:['a, b', 'c']", "a, b", ("a, b", "c")),
        ('Choice list:["it\'s", "no"]', "no", ("it's", "no")),
        ("Choice list:[tie [blue], hat]", "hat", ("tie [blue]", "hat")),
        ("Choice list:[a cat, black, a dog]", "a cat, black", ("a cat, black", "a dog")),
        ("Choice list:[A: mix flour| B: add eggs, milk]. Answer with the letter.", "B", ("A", "B")),
        (
            "Choice list:[A: mix flour| B: add eggs, milk].",
            "add eggs, milk",
            ("mix flour", "add eggs, milk"),
        ),
        ("Choice list:[A: <image>| B: <image>]", "A", ("A", "B")),
        ("<image> what is it? Options: cat, dog, red fox", "red fox", ("cat", "dog", "red fox")),
        ("Is it? Options: yes, no.", "no", ("yes", "no")),
        ("Which?\nA. a cat\nB. a dog\nAnswer with the letter.", "B", ("A", "B")),
        ("Which?\nA. a cat\nB. a dog", "a dog", ("a cat", "a dog")),
        ("Which?\n(A) a cat\n(B) a dog\n(C) a fox", "C", ("A", "B", "C")),
        ("Options:\nA) a cat\nB) a dog", "a cat", ("a cat", "a dog")),
        ("Options: yes, no, yes", "yes", ("yes", "no", "yes")),
        ("What is the weather like?", "fine", ()),
        ("Choice list:[one]", "one", ()),
        ("A. a cat", "A", ()),
    ],
)
def test_options_in_prompt(prompt: str, answer: str, options: tuple[str, ...]) -> None:
    found = choices_in_prompt(prompt, answer)
    assert (() if found is None else found.options) == options


@pytest.mark.parametrize("prompt", ["Choice list:[one, two]", "Choice list:[one, two"])
def test_a_list_without_the_answer_is_reported(prompt: str) -> None:
    with pytest.raises(NotOffered):
        choices_in_prompt(prompt, "three")


def test_match_is_of_the_whole_option() -> None:
    assert match_option("dark red", ["red", "Dark  Red."]) == 1
    assert match_option("10", ["1", "10"]) == 1
    assert match_option("a", ["a cat", "b"]) is None
