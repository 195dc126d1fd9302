"""Read the option that a generated text chooses.

The rule above all: no answer is to be read as another option. What is in doubt is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from fedmosaic.evaluation.answers import vocabulary
from fedmosaic.evaluation.answers.clean import (
    marked_answers,
    one_form,
    unwrapped,
    without_all_marks,
    without_markup,
    without_reasoning,
    without_special_tokens,
)
from fedmosaic.evaluation.answers.judge import choose
from fedmosaic.evaluation.answers.letters import labels_of
from fedmosaic.evaluation.answers.numerals import whole_word
from fedmosaic.evaluation.answers.release import read_choice_as_release
from fedmosaic.evaluation.answers.tokens import content, same_word, tokenise

_AMBIGUOUS = object()


def read_choice(text: str, options: Sequence[str]) -> str | None:
    r"""Return the option that ``text`` chooses, exactly as listed, or None.

    None means that the text names no option, several, or one in doubt. The first of these rules
    that applies decides:

    1. The text is an option. It is compared exactly, then without what surrounds an answer
       (reasoning, special tokens, markup), then in one encoding, without outer punctuation, and
       without capitals and by the value of numbers. Where a comparison fits several options, none
       is read.
    2. It marks an answer, as ``<answer>`` or ``\boxed``: what is marked is read.
    3. An option is said to be the answer: "the answer is red", "B is correct", or a sentence that
       says nothing else.
    4. Only one option is mentioned undenied. A longer option hides the shorter ones in it.

    A letter stands for the option that it is, for the option that carries it ("A. red"), or else
    for the option at its place (A: the first), unless another option contains the letter as a word.

    Args:
        text: A generated answer.
        options: Options as listed in the prompt.
    """
    if text.strip() in options:
        return text.strip()
    visible = without_special_tokens(without_reasoning(text))
    if not visible or not options:
        return None
    marked = set(marked_answers(visible))
    if len(marked) > 1:
        return None
    if marked:
        return _read(marked.pop(), options)
    return _read(visible, options)


def _read(text: str, options: Sequence[str]) -> str | None:
    whole = _whole(text, options)
    if whole is not None:
        return None if whole is _AMBIGUOUS else str(whole)
    return choose(one_form(without_markup(text)), labels_of(options))


def _whole(text: str, options: Sequence[str]) -> object:
    """Return the option that the whole text is, a mark where it fits several, or None."""
    steps: list[Callable[[str], str]] = [
        str.strip,
        one_form,
        without_markup,
        unwrapped,
        without_all_marks,
    ]
    forms = {option: option for option in options}
    for step in steps:
        text, forms = step(text), {option: step(form) for option, form in forms.items()}
        fits = [option for option, form in forms.items() if form == text]
        if fits:
            return fits[0] if len(fits) == 1 else _AMBIGUOUS
    fits = [option for option, form in forms.items() if _same_tokens(text, form)]
    if len(fits) > 1:
        return _AMBIGUOUS
    if fits and any(_may_be(text, form) for option, form in forms.items() if option not in fits):
        return _AMBIGUOUS
    return fits[0] if fits else None


def _may_be(a: str, b: str) -> bool:
    """Return whether two texts are one number where a stop parts thousands: 1.000 and 1000."""
    first, second = content(tokenise(a)), content(tokenise(b))
    return (
        len(first) == len(second) == 1
        and "." in first[0].text
        and all(
            x.quantity is not None and y.quantity is not None and x.quantity.may_fit(y.quantity)
            for x, y in zip(first, second, strict=True)
        )
    )


def _same_tokens(a: str, b: str) -> bool:
    """Return whether two texts have the same words, but for capitals, and the same numbers."""
    word = vocabulary.YES_NO.get(a.casefold(), a)
    first, second = content(tokenise(word)), content(tokenise(b))
    if number := whole_word(a):
        return (
            len(second) == 1 and second[0].quantity is not None and second[0].quantity.fits(number)
        )
    if len(first) != len(second) or not first:
        return False
    return all(
        x.quantity.fits(y.quantity)
        if x.quantity and y.quantity
        else x.kind is y.kind and same_word(x.text, y.text)
        for x, y in zip(first, second, strict=True)
    )


def is_same_option(a: str, b: str) -> bool:
    """Return whether two texts are one option but for what surrounds it, capitals and encoding."""
    return _whole(a, (b,)) == b


Reader = Literal["default", "release"]
READERS: Mapping[Reader, Callable[[str, Sequence[str]], str | None]] = {
    "default": read_choice,
    "release": read_choice_as_release,
}
