"""Write every option in the form in which an answer was written."""

from __future__ import annotations

from collections.abc import Callable

from fedmosaic.data.options.answer import Named, sentence, whole_answer
from fedmosaic.data.options.choices import Choices, OptionList, OptionsError
from fedmosaic.data.options.labels import in_sequence, plain_label


def in_form(answer: str, named: Named, listing: OptionList) -> tuple[str, ...]:
    """Return the options as labels, as texts or as both, whichever the answer names one by."""
    if named.form == "text":
        return listing.texts
    if named.form == "label":
        return _labels(answer[named.start : named.end], listing)
    begin, end = named.label
    pairs = zip(_labels(answer[begin:end], listing), listing.texts, strict=True)
    return tuple(
        f"{answer[named.start : begin]}{label}{answer[end : named.text]}{text}"
        for label, text in pairs
    )


def spelled(answer: str, choices: Choices) -> tuple[str, ...]:
    """Return the options as the answer would name them, had it named another one.

    ``"(B)"`` among A, B, C gives ``("(A)", "(B)", "(C)")``; ``"The answer is B."`` gives three
    sentences; ``"Red."`` among red and blue gives ``("Red.", "Blue.")``. Capitals are taken over
    from the answer where it differs from its option in these alone. Where the option is not found
    in the answer, the other options are returned as they are. The text at ``choices.index`` is
    always the answer itself.
    """
    options = choices.options
    listing = OptionList(options, options if in_sequence(options) else ())
    try:
        named = whole_answer(answer, listing, prefer_label=True) or sentence(answer, listing)
    except OptionsError:
        named = None
    before, after = "", ""
    style: Callable[[str], str] = str
    if named is not None and options[named.index] == options[choices.index]:
        before, after = answer[: named.start], answer[named.end :]
        style = _style(answer[named.start : named.end], options[named.index])
    texts = [f"{before}{style(option)}{after}" for option in options]
    doubled = [
        text.removesuffix(".") if after == "." and option.endswith(".") else text
        for text, option in zip(texts, options, strict=True)
    ]
    return tuple(answer if index == choices.index else text for index, text in enumerate(doubled))


def _labels(written: str, listing: OptionList) -> tuple[str, ...]:
    """Return the labels as in the prompt, or plain (A for Ａ and Ⓐ) where the answer is."""
    plain = tuple(plain_label(label) for label in listing.labels)
    return plain if written not in listing.labels and written in plain else listing.labels


def _style(written: str, option: str) -> Callable[[str], str]:
    """Return the change of capitals between an option and how it is written."""
    for change in (str, str.upper, str.lower, _capital):
        if written == change(option):
            return change
    return str


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
