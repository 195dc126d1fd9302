"""Find the option of a field that an answer means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fedmosaic.data.options.answer import Named, find_label
from fedmosaic.data.options.choices import (
    Choices,
    OptionList,
    OptionsError,
    listed,
    shortened,
)
from fedmosaic.data.options.match import exact, folded
from fedmosaic.data.options.naming import named_in
from fedmosaic.data.options.offers import asks_for_labels, offers
from fedmosaic.data.options.spelling import in_form
from fedmosaic.data.options.values import option_lists, plain_value

_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def choices_of_field(
    value: object,
    answer: str | int | float | bool,
    prompt: str = "",
    name: str = "options",
    answer_name: str = "answer",
) -> Choices:
    """Return the options of a field, and the one that the answer means.

    Args:
        value: a list of texts, numbers or booleans; a list of objects with a text and perhaps a
            label (``TEXT_KEYS``, ``LABEL_KEYS``); a mapping from letters to texts;
            ``{"text": [...], "label": [...]}``; or one text that lists options.
        answer: the text of an option, its letter, both, or a sentence with one of them; or its
            place from 0, as an int. Where the options are numbers, a number is an option first.
            A place is never read from a text, nor counted from 1, unless the options are so
            labelled.
        prompt: the user's text. Where it letters the same options, its letters count.
        name: the field of the options, for errors.
        answer_name: the field of the answer, for errors.

    Returns:
        The options; ``learn`` is their text where the answer is a place, or a letter that the
        prompt does not show. A place becomes a letter where the prompt shows letters and asks for
        one.

    Raises:
        OptionsError: the options cannot be read, or the answer means none or several of them.
    """
    given, wanted = plain_value(value), plain_value(answer)
    try:
        lists = option_lists(given, name)
        if isinstance(wanted, str):
            return _by_text(lists, wanted, prompt, name)
        return _by_number(given, lists[0], wanted, prompt)
    except OptionsError as error:
        field = answer_name if error.field == "answer" else error.field
        raise OptionsError(field, error.message) from error


def _by_number(given: Any, listing: OptionList, answer: Any, prompt: str) -> Choices:
    """Return the choices of an answer that is a number or a boolean."""
    if not isinstance(answer, int | float):
        raise OptionsError("answer", "expected the text of an option, its letter or its place")
    texts = listing.texts
    option = _same_value(given, listing, answer)
    place = answer if isinstance(answer, int) and not isinstance(answer, bool) else None
    if place is None or not 0 <= place < len(texts):
        if option is None:
            raise OptionsError(
                "answer",
                f"{json.dumps(answer)} is neither an option nor the place of one, "
                f"0 to {len(texts) - 1}; write the option's text, its letter or its place",
            )
        place = option
    if option is not None and texts[option] != texts[place]:
        raise OptionsError(
            "answer",
            f"{answer} may be the option {shortened(texts[option])} or the place of "
            f"{shortened(texts[place])}; write the option as a text",
        )
    return _of_place(listing, place, prompt)


def _same_value(given: Any, listing: OptionList, answer: int | float) -> int | None:
    """Return the option that is the number itself, or that has it as its label."""
    if listing.labels:
        return find_label(json.dumps(answer), listing.labels)
    if isinstance(answer, bool):
        small = [text.casefold() for text in listing.texts]
        return small.index(json.dumps(answer)) if json.dumps(answer) in small else None
    for index, entry in enumerate(given if isinstance(given, list) else []):
        if isinstance(entry, int | float) and not isinstance(entry, bool) and entry == answer:
            return index
    return None


def _of_place(listing: OptionList, index: int, prompt: str) -> Choices:
    """Return the choices of a place, as letters if the prompt shows letters and asks for one."""
    text = listing.texts[index]
    shown = _lettered(prompt, listing)
    if shown is not None and text in shown.texts and asks_for_labels(prompt):
        place = shown.texts.index(text)
        return Choices(shown.labels, place, shown.labels[place])
    return Choices(listing.texts, index, text)


def _by_text(lists: Sequence[OptionList], answer: str, prompt: str, name: str) -> Choices:
    """Return the choices of an answer that is a text."""
    shown = next((shown for listing in lists if (shown := _lettered(prompt, listing))), None)
    if shown is not None:
        found = named_in(answer, (shown,), asks_for_labels(prompt))
        if found is not None:
            _check_letters(answer, found[0], shown, lists[0], name)
            return Choices(in_form(answer, found[0], shown), found[0].index, answer)
    wanted = exact(answer)
    exactly = next((listing for listing in lists if wanted in listing.texts), None)
    if exactly is not None and not exactly.labels:
        return Choices(exactly.texts, exactly.texts.index(wanted), answer)
    # Without labels of their own, options are A, B, C … in their order.
    labelled = tuple(
        listing if listing.labels else OptionList(listing.texts, _LETTERS[: len(listing.texts)])
        for listing in lists
        if listing.labels or len(listing.texts) <= len(_LETTERS)
    )
    found = named_in(answer, labelled or lists, asks_for_labels(prompt), joins=len(lists) > 1)
    if found is None:
        raise OptionsError(
            "answer",
            f"{shortened(answer)} is none of the options {listed(lists[0].texts)}; "
            "write the option's text, its letter, or its place from 0 as a number",
        )
    named, listing = found
    if named.form != "label":
        return Choices(in_form(answer, named, listing), named.index, answer)
    if shown is None and not lists[0].labels:
        _check_no_other_letters(prompt, name)
    return Choices(listing.texts, named.index, listing.texts[named.index])


def _lettered(prompt: str, listing: OptionList) -> OptionList | None:
    """Return the prompt's own list of these options, if it letters them, in its order."""
    for shown in _lettered_lists(prompt):
        same = sorted(map(folded, shown.texts)) == sorted(map(folded, listing.texts))
        if same or shown.labels == listing.texts:
            return shown
    return None


def _lettered_lists(prompt: str) -> list[OptionList]:
    return [offer.lists[0] for offer in offers(prompt) if offer.lists[0].labels]


def _check_letters(
    answer: str, named: Named, shown: OptionList, listing: OptionList, name: str
) -> None:
    """Refuse a letter that stands for one option in the prompt and for another in the field."""
    if named.form == "text" or not listing.labels:
        return
    place = find_label(shown.labels[named.index], listing.labels)
    if place is not None and folded(listing.texts[place]) != folded(shown.texts[named.index]):
        raise OptionsError(
            name,
            f"{shortened(answer)} is {shortened(shown.texts[named.index])} in the prompt, and "
            f"{shortened(listing.texts[place])} here; give both the same letters",
        )


def _check_no_other_letters(prompt: str, name: str) -> None:
    """Refuse a letter as an answer where the prompt letters options that the field lacks."""
    for shown in _lettered_lists(prompt)[:1]:
        raise OptionsError(
            name,
            f"the prompt letters other options, {listed(shown.texts)}; give both the same options, "
            "or write the answer as a text",
        )
