"""Test which option an answer names, how the others are then written, and what is no list."""

from __future__ import annotations

import contextlib
import time

import pytest

from fedmosaic.data.options import (
    Choices,
    NotOffered,
    OptionsError,
    choices_in_prompt,
    match_option,
    spelled,
)

RIVERS = "Which river is it?\nA. the Nile\nB. the Danube\nC. the Amazon"


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ("B", ("A", "B", "C")),
        ("b", ("a", "b", "c")),
        ("(B)", ("(A)", "(B)", "(C)")),
        ("B)", ("A)", "B)", "C)")),
        ("[B].", ("[A].", "[B].", "[C].")),
        ("**B.**", ("**A.**", "**B.**", "**C.**")),
        ("Ｂ", ("A", "Ｂ", "C")),
        ("Option B", ("Option A", "Option B", "Option C")),
        ("Answer: B", ("Answer: A", "Answer: B", "Answer: C")),
        ("答案是B。", ("答案是A。", "答案是B。", "答案是C。")),
        ("정답: B", ("정답: A", "정답: B", "정답: C")),
        ("Die Antwort ist B.", ("Die Antwort ist A.", "Die Antwort ist B.", "Die Antwort ist C.")),
        ("I think it is B", ("I think it is A", "I think it is B", "I think it is C")),
        ("B because it is long", tuple(f"{letter} because it is long" for letter in "ABC")),
        (
            "The flag is old.\nANSWER: B.",
            tuple(f"The flag is old.\nANSWER: {letter}." for letter in "ABC"),
        ),
        ("the Danube", ("the Nile", "the Danube", "the Amazon")),
        ("The Danube.", ("The Nile.", "The Danube.", "The Amazon.")),
        ("THE DANUBE", ("THE NILE", "THE DANUBE", "THE AMAZON")),
        ("It is the Danube.", ("It is the Nile.", "It is the Danube.", "It is the Amazon.")),
        (
            "It's the Danube, not the Nile.",
            tuple(
                f"It's {river}, not the Nile." for river in ("the Nile", "the Danube", "the Amazon")
            ),
        ),
        ("B. the Danube", ("A. the Nile", "B. the Danube", "C. the Amazon")),
        ("(B) The Danube.", ("(A) the Nile.", "(B) The Danube.", "(C) the Amazon.")),
        ("B - the Danube", ("A - the Nile", "B - the Danube", "C - the Amazon")),
        (
            "The answer is (B) the Danube.",
            tuple(
                f"The answer is ({x}" for x in ("A) the Nile.", "B) the Danube.", "C) the Amazon.")
            ),
        ),
    ],
)
def test_options_are_spelled_as_the_answer_is(answer: str, written: tuple[str, ...]) -> None:
    found = choices_in_prompt(RIVERS, answer)
    assert found is not None and (found.index, found.learn) == (1, answer)
    assert spelled(answer, found) == written


def test_the_place_of_the_answer_holds_the_answer_whatever_it_is() -> None:
    assert spelled("something", Choices(("a", "b"), 1, "b")) == ("a", "something")
    assert spelled("Red.", Choices(("red", "blue", "blue."), 0, "Red.")) == (
        "Red.", "Blue.", "Blue.",
    )  # fmt: skip
    assert spelled("No", Choices(("NO", "No"), 1, "No")) == ("NO", "No")


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "the Volga",
            "D",
            "(D)",
            "A and B",
            "(A) and (B)",
            "A, C",
            "not B",
            "It is not the Nile.",
            "A heron",
            "?",
        ),
        "The Nile and the Danube are rivers.",
        "It flows into a sea, and people have lived along its banks for as long as anyone knows.",
    ],
)
def test_an_answer_that_is_not_offered_is_reported(answer: str) -> None:
    with pytest.raises(NotOffered, match="options of its prompt") as raised:
        choices_in_prompt(RIVERS, answer)
    assert raised.value.options == ("the Nile", "the Danube", "the Amazon")


@pytest.mark.parametrize(
    ("prompt", "answer", "message"),
    [
        ("How many?\n1. 3\n2. 1\n3. 2", "3", "is the label of '2'"),
        ("Which type?\nA. B\nB. A", "A", "is the label of 'B'"),
        (RIVERS, "B. the Amazon", "has the label of 'the Danube' and the text of"),
        ("Which? Choice list:[TT| Tt| tt]", "tT", "fits several options"),
        ("Which?\nA. TT\nB. Tt\nC. tt", "tT", "fits several options"),
    ],
)
def test_an_answer_that_may_be_two_options_is_refused(
    prompt: str, answer: str, message: str
) -> None:
    with pytest.raises(OptionsError, match=message) as raised:
        choices_in_prompt(prompt, answer)
    assert raised.value.field == "answer"


def test_a_prompt_that_asks_for_the_letter_means_the_letter() -> None:
    found = choices_in_prompt("Which type?\nA. B\nB. A\nAnswer with the option's letter.", "A")
    assert found is not None and (found.options, found.index) == (("A", "B"), 0)


@pytest.mark.parametrize(
    ("answer", "options", "index"),
    [
        ("Tt", ("TT", "Tt", "tt"), 1),
        ("No", ("NO", "No"), 1),
        ("MΩ", ("mΩ", "MΩ"), 1),
        ("7.", ("7", "7."), 1),
        ("7", ("7.", "7"), 1),
        ("g'", ("g", "g'", "g''"), 1),
        ("g’", ("g", "g'", "g''"), 1),
        ("x³", ("x3", "x³"), 1),
        ("k", ("'k'", '"k"', "k"), 2),
        ("“k”", ("'k'", '"k"', "k"), 1),
        ("Go", ("Go!", "Go?", "Go"), 2),
        ("polish", ("Polish", "polish"), 1),
        ("Polish.", ("polish", "Polish"), 1),
        ("(2, 5]", ("(2, 5)", "(2, 5]"), 1),
        ("Red.", ("blue", "red"), 1),
        ("dark  RED", ("red", "dark-red"), 1),
        ("'red'", ("blue", "red"), 1),
        ("cafe\u0301", ("tea", "café"), 1),
        ("Ｎｏ", ("yes", "no"), 1),
        ("多瑙河。", ("尼罗河", "多瑙河"), 1),
        ("two", ("two", "four", "two"), 0),
        ("x3", ("x2", "x³"), None),
        ("Go", ("Go!", "Stop"), None),
        ("1", ("10", "11"), None),
        ("red", ("dark red", "blue"), None),
        (".", ("a", "."), 1),
        ("", ("a", "b"), None),
    ],
)
def test_exact_matches_count_before_folded_ones(
    answer: str, options: tuple[str, ...], index: int | None
) -> None:
    assert match_option(answer, options) == index


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        ("tT", ("TT", "Tt", "tt")),
        ("no", ("NO", "No")),
        ("no.", ("NO", "No")),
        ("x y", ("x-y", "x_y")),
    ],
)
def test_several_folded_matches_are_refused(answer: str, options: tuple[str, ...]) -> None:
    with pytest.raises(OptionsError, match="fits several options"):
        match_option(answer, options)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Who wrote this, A. Smith or B. Jones?", "A. Smith"),
        ("A. Smith and B. Jones wrote this. Who is first?", "A. Smith"),
        ("Authors: A. Smith, B. Jones, C. Lee. Who is last?", "C. Lee"),
        ("Authors: A. Smith, B. Jones, C. Lee", "They wrote it."),
        ("It is signed J. R. R. Tolkien. Who is it?", "Tolkien"),
        ("The U.S.A. elected B. Obama. Who?", "Obama"),
        ("How many birds are there?\n1. Look at the picture.\n2. Answer with a number.", "2"),
        ("1. Look at the picture 2. Answer. How many birds?", "2"),
        ("Follow these steps: 1. Look 2. Count the birds 3. Answer with one word", "three"),
        ("Read the text.\n1. The heron eats fish.\n2. The duck eats weed.\nHow many birds?", "2"),
        ("What is it? Options: none", "a kite"),
        ("What is it? Options: none. Look closely.", "a kite"),
        ("Choice list:[one]", "one"),
        ("A. a cat", "A"),
        ("There are two options: wait, or leave. What did he do?", "He waited."),
        ("Describe the choice: a heron or a duck.", "It shows a heron near the reeds."),
        ("Translate: it's a choice: life or death.", "Vie ou mort"),
        ("Choose a title for the following text: A heron, standing still, waits.", "The heron"),
        ("A: How are you?\nB: Fine.\nWhat does B say?", "Fine"),
        ("Summarise:\nA. Introduction\nB. Methods\nC. Results", "A paper in three parts."),
        ("Vitamin A. Vitamin B. Which?", "B"),
        ("What is the speed (km/h)?", "50"),
        ("Is the kite red, green or blue?", "green"),
        ("What is the weather like?", "fine"),
        ("At 10.30 a.m. the train leaves. When?", "10.30"),
    ],
)
def test_what_only_looks_like_a_list_is_none(prompt: str, answer: str) -> None:
    assert choices_in_prompt(prompt, answer) is None


@pytest.mark.parametrize(
    ("prompt", "answer", "options"),
    [
        ("Which? Options: red, blue. Answer with one word.", "blue", ("red", "blue")),
        ("Options: red, blue. Which colour is the kite?", "blue", ("red", "blue")),
        ("Which? Choices: red, blue <image>", "blue", ("red", "blue")),
        ("Which is it: red, green or blue?", "green", ("red", "green", "blue")),
        ("Is it raining? (yes/no)", "no", ("yes", "no")),
        ("Is it raining? (yes / no)", "No.", ("yes", "no")),
        ("Which? Options: red, blue\n\nNow, which?\nA. oak\nB. elm", "elm", ("oak", "elm")),
        ("Which?\nA. oak\nB. elm\n\nWhich colour? Options: red, blue", "blue", ("red", "blue")),
        ("Say:\n1. x\n2. y\nWhich holds?\nA. only 1\nB. only 2", "only 2", ("only 1", "only 2")),
        ("A. oak\nB. elm\nWhich is it?", "B", ("A", "B")),
        ("Which?\nA. oak,\n   old\nB. elm", "oak, old", ("oak, old", "elm")),
        ("Which?\nA. oak\nB. elm,\n   young\nAnswer:", "elm, young", ("oak", "elm, young")),
        ("Complete: it is\nA. tall\nB. small", "B", ("A", "B")),
        ('Options: {"A": "red"}\nChoices: [red, blue]', "blue", ("red", "blue")),
        ("Which? Choice list:[a cat, black, a dog]", "a cat, black", ("a cat, black", "a dog")),
        ("Which? Options: 100,200,300", "200", ("100", "200", "300")),
        ("Which? Options: 1,5, 2,5, 3,5", "2,5", ("1,5", "2,5", "3,5")),
    ],
)  # fmt: skip
def test_which_list_counts_and_where_it_ends(
    prompt: str, answer: str, options: tuple[str, ...]
) -> None:
    found = choices_in_prompt(prompt, answer)
    assert found is not None and found.options == options
    assert match_option(answer, [found.options[found.index]]) == 0


def test_an_answer_of_an_earlier_list_is_not_offered_by_the_last_one() -> None:
    prompt = "Which tree?\nA. oak\nB. elm\nC. fir\nAnswer: C\n\nWhich river?\nA. Nile\nB. Rhine"
    for answer in ("C", "fir"):
        with pytest.raises(NotOffered) as raised:
            choices_in_prompt(prompt, answer)
        assert raised.value.options == ("Nile", "Rhine")


@pytest.mark.parametrize(
    ("prompt", "answer", "options"),
    [
        ("Which one is it: (a) red, (b) blue, or (c) green?", "green", ("red", "blue", "green")),
        ("Which? Answer with one of: cat, dog", "dog", ("cat", "dog")),
        ("Categories: sport, art. Which?", "art", ("sport", "art")),
        ("这是什么？A.猫 B.狗 C.鸟", "C", ("A", "B", "C")),
        ("请从以下选项中选择：红色、蓝色或绿色。", "蓝色", ("红色", "蓝色", "绿色")),
        ("これは何ですか。次の中から選んでください：犬、猫", "猫", ("犬", "猫")),
        ("これは何？\nア　犬\nイ　猫", "イ", ("ア", "イ")),
        ("다음 중 무엇입니까? 1) 개 2) 고양이", "2", ("1", "2")),
        ("다음 중 무엇입니까?\n① 개\n② 고양이", "2", ("1", "2")),
        ("¿Qué es? Opciones: perro, gato o pájaro", "gato", ("perro", "gato", "pájaro")),
        ("Quel est-il ? Choix : chien, chat ou oiseau", "chat", ("chien", "chat", "oiseau")),
        ("Was ist es? Optionen: Hund, Katze oder Uhu", "Uhu", ("Hund", "Katze", "Uhu")),
        ("Что это? Варианты: кот, пёс или ёж", "пёс", ("кот", "пёс", "ёж")),
        ("ما هذا؟\nأ) قطة\nب) كلب", "ب", ("أ", "ب")),
        ("यह क्या है?\n(क) बिल्ली\n(ख) कुत्ता", "ख", ("क", "ख")),
        ("Which?\nI. x\nII. y\nIII. z", "II", ("I", "II", "III")),
    ],
)
def test_other_languages_and_ways_to_ask(
    prompt: str, answer: str, options: tuple[str, ...]
) -> None:
    found = choices_in_prompt(prompt, answer)
    assert found is not None and found.options == options
    assert found.options[found.index] == answer


@pytest.mark.parametrize(
    "prompt",
    [
        "Options: " + "a, " * 400,
        "A. x\nB. y\n" * 200,
        "Options: a. b. " * 200,
        "Options:" + " \t" * 2000,
    ],
)
def test_long_prompts_are_read_in_a_moment(prompt: str) -> None:
    start = time.process_time()
    with contextlib.suppress(OptionsError):
        choices_in_prompt(prompt, "c")
    assert time.process_time() - start < 5
